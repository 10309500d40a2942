import numpy as np
import pytest
from flax import nnx

from perceiver_jax.models.array_encoder import (
    ArrayEncoderConfig,
    array_encoder,
    array_input_adapter,
)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_input_channels": 0}, "num_input_channels=0 is too small"),
        ({"num_axes": 0}, "num_axes=0 is too small"),
        ({"num_frequency_bands": -1}, "num_frequency_bands=-1 is too small; it must be 0"),
        ({"max_frequency": 3.0}, "max_frequency=3.0 has no meaning with num_frequency_bands=0"),
        ({"num_cross_attention_layers": 2}, "exceeds num_self_attention_blocks=1"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ArrayEncoderConfig(**({"num_input_channels": 3} | fields))


def test_the_config_of_the_inputs_reaches_the_adapter():
    config = ArrayEncoderConfig(
        num_input_channels=3,
        num_axes=2,
        num_frequency_bands=2,
        max_frequency=9.0,
        position_channel_order="lucidrains",
    )
    adapter = array_input_adapter(config)
    assert adapter.num_input_channels == 3 + 2 * 5
    assert (adapter.num_axes, adapter.num_frequency_bands) == (2, 2)
    assert (adapter.max_frequency, adapter.channel_order) == (9.0, "lucidrains")


def test_the_config_of_the_layers_reaches_the_encoder(shapes):
    config = ArrayEncoderConfig(
        num_input_channels=3,
        num_cross_attention_heads=1,
        num_self_attention_heads=2,
        num_self_attention_layers_per_block=2,
        qkv_bias=False,
    )
    found = shapes(
        lambda: array_encoder(config, num_latents=5, num_latent_channels=8, rngs=nnx.Rngs(0))
    )
    assert found["latents"] == (5, 8)
    # Without a number of their own, queries and keys have the latent channels.
    assert found["cross_attention/0/attention/key/kernel"] == (3, 8)
    assert "block/0/layer/1/attention/query/kernel" in found
    assert not any(path.endswith("query/bias") for path in found)
    assert np.prod(found["cross_attention/0/kv_norm/scale"]) == 3
