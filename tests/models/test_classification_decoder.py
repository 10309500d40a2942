import pytest
from flax import nnx

from perceiver_jax.models.classification_decoder import (
    ClassificationDecoderConfig,
    MeanPoolDecoderConfig,
    classification_decoder,
    mean_pool_head,
)


@pytest.mark.parametrize(
    "cls, fields, message",
    [
        (ClassificationDecoderConfig, {"num_classes": 0}, "num_classes=0 is too small"),
        (ClassificationDecoderConfig, {"num_output_queries": 0}, "num_output_queries=0"),
        (ClassificationDecoderConfig, {"dropout": 1.5}, "dropout=1.5 is not a rate"),
        (MeanPoolDecoderConfig, {"num_classes": 0}, "num_classes=0 is too small"),
    ],
)
def test_impossible_fields_are_refused(cls, fields, message):
    with pytest.raises(ValueError, match=message):
        cls(**fields)


def test_the_config_of_a_query_decoder_reaches_its_parts(shapes):
    config = ClassificationDecoderConfig(
        num_classes=7,
        num_output_queries=3,
        num_output_query_channels=6,
        num_cross_attention_heads=2,
        num_cross_attention_qk_channels=4,
        cross_attention_widening_factor=2,
        qkv_bias=False,
    )
    found = shapes(lambda: classification_decoder(config, num_latent_channels=8, rngs=nnx.Rngs(0)))
    assert found["output_adapter/queries"] == (3, 6)
    assert found["output_adapter/linear/kernel"] == (6, 7)
    assert found["cross_attention/attention/key/kernel"] == (8, 4)
    assert found["cross_attention/mlp/hidden/kernel"] == (6, 12)
    assert "cross_attention/attention/query/bias" not in found


@pytest.mark.parametrize("output_queries", ["zeros", "given"])
def test_only_trainable_queries_are_parameters(shapes, output_queries):
    config = ClassificationDecoderConfig(num_output_query_channels=8, output_queries=output_queries)
    decoder = shapes(
        lambda: classification_decoder(config, num_latent_channels=8, rngs=nnx.Rngs(0))
    )
    assert "output_adapter/queries" not in decoder


@pytest.mark.parametrize("norm", [False, True])
def test_the_config_of_a_pooling_head_reaches_it(norm):
    config = MeanPoolDecoderConfig(
        num_classes=7, norm=norm, layer_norm_epsilon=0.1, init_method="normal", init_scale=0.0
    )
    head = mean_pool_head(config, num_latent_channels=8, rngs=nnx.Rngs(0))
    assert head.linear.kernel.shape == (8, 7)
    assert not head.linear.kernel[...].any()
    assert hasattr(head, "norm") == norm
    if norm:
        assert head.norm.epsilon == 0.1
