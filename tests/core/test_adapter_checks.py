import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import ClassificationOutputAdapter
from perceiver_jax.core import PerceiverDecoder, PerceiverEncoder
from perceiver_jax.core.tokens import Tokens


class Plain:
    """The least that an input adapter is."""

    num_input_channels = 3

    def __call__(self, inputs, input_mask=None, *, key=None):
        return Tokens(content=jnp.asarray(inputs), mask=input_mask)


class AnArray(Plain):
    def __call__(self, inputs, input_mask=None, *, key=None):
        return inputs


class Keyless(Plain):
    def __call__(self, inputs, input_mask=None):
        return Tokens(content=inputs)


class Channelless:
    def __call__(self, inputs, input_mask=None, *, key=None):
        return Tokens(content=inputs)


def encoder(adapter):
    sizes = {"num_latents": 2, "num_latent_channels": 8}
    return PerceiverEncoder(input_adapter=adapter, rngs=nnx.Rngs(0), **sizes)


def test_an_adapter_of_ones_own_need_not_be_a_module():
    assert encoder(Plain())(np.ones((2, 4, 3), np.float32)).shape == (2, 2, 8)


@pytest.mark.parametrize(
    "adapter, message",
    [
        (Channelless(), "of Channelless, has no num_input_channels; .* see adapters.base.InputAd"),
        (lambda x: x, "has no num_input_channels"),
        (Plain, "Plain, is a class, and an instance"),
        (Keyless(), "of Keyless, takes no key="),
    ],
)
def test_what_is_no_input_adapter_is_refused_when_the_encoder_is_built(adapter, message):
    with pytest.raises(TypeError, match=message):
        encoder(adapter)


def test_what_is_no_output_adapter_is_refused_when_the_decoder_is_built():
    for adapter, message in (
        (Plain(), "of Plain, has no such channels; it has num_output_query_channels"),
        (ClassificationOutputAdapter, "is a class, and an instance of it is needed"),
    ):
        with pytest.raises(TypeError, match=message):
            PerceiverDecoder(output_adapter=adapter, num_latent_channels=8, rngs=nnx.Rngs(0))


def test_an_input_adapter_returns_tokens_of_a_batch():
    with pytest.raises(TypeError, match="AnArray returned ndarray; an input adapter returns"):
        encoder(AnArray())(np.ones((2, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"shape \(4, 3\); it is \[B, M, channels\], so give"):
        encoder(Plain())(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="announces num_input_channels=3 and gave tokens of 5"):
        encoder(Plain())(np.ones((2, 4, 5), np.float32))
