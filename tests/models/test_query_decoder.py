import pytest
from flax import nnx

from perceiver_jax.models.query_decoder import QueryDecoderConfig, query_decoder


@pytest.mark.parametrize("name", ["num_outputs", "num_output_query_channels"])
def test_impossible_fields_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 is too small; it must be 1 or more"):
        QueryDecoderConfig(**{name: 0})


@pytest.mark.parametrize("num_outputs", [None, 7])
def test_the_config_reaches_the_parts(shapes, num_outputs):
    config = QueryDecoderConfig(
        num_output_query_channels=6,
        num_outputs=num_outputs,
        num_cross_attention_heads=2,
        num_cross_attention_qk_channels=4,
        cross_attention_mlp=False,
    )
    found = shapes(lambda: query_decoder(config, num_latent_channels=8, rngs=nnx.Rngs(0)))
    assert found["cross_attention/attention/key/kernel"] == (8, 4)
    assert "cross_attention/mlp/hidden/kernel" not in found
    head = {path: s for path, s in found.items() if path.startswith("output_adapter")}
    names = {"output_adapter/linear/kernel": (6, 7), "output_adapter/linear/bias": (7,)}
    assert head == ({} if num_outputs is None else names)
