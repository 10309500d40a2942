"""Encoders of two frames."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import OpticalFlowInputAdapter
from perceiver_jax.adapters.input_arrays import InputArray, InputArrays
from perceiver_jax.config import part, setting
from perceiver_jax.core import EncoderConfig, PerceiverEncoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpticalFlowEncoderConfig(EncoderConfig):
    """An encoder of two frames."""

    num_cross_attention_qk_channels: int | None = setting(
        None,
        "query and key channels of all heads together; None: the channels of a token, positions "
        "included",
    )
    image_shape: tuple[int, int] = setting((368, 496), "height and width of a frame")
    num_patch_hidden_channels: int = setting(
        64, "channels that a pixel's 3×3 neighbourhoods in both frames are projected to"
    )
    num_frequency_bands: int = setting(64, "Fourier frequencies per axis")
    max_resolution: tuple[float, float] | None = setting(
        None, "frequencies go from 1 to half of this, per axis; None: image_shape"
    )

    def input_arrays(self) -> InputArrays:
        """What the model is called with."""
        return {
            "inputs": InputArray(
                shape=(2, *self.image_shape, 3),
                dtype="float32",
                meaning="two frames, red, green and blue: pixel / 127.5 - 1",
                least=-1.0,
                most=1.0,
            )
        }


def optical_flow_encoder(
    config: OpticalFlowEncoderConfig, *, num_latents: int, num_latent_channels: int, rngs: nnx.Rngs
) -> PerceiverEncoder:
    """The encoder that the config describes."""
    adapter = OpticalFlowInputAdapter(
        image_shape=config.image_shape,
        num_patch_hidden_channels=config.num_patch_hidden_channels,
        num_frequency_bands=config.num_frequency_bands,
        max_resolution=config.max_resolution,
        init=config.init,
        compute_dtype=config.compute_dtype,
        rngs=rngs,
    )
    fields = part(config, EncoderConfig)
    if config.num_cross_attention_qk_channels is None:
        fields["num_cross_attention_qk_channels"] = adapter.num_input_channels
    return PerceiverEncoder(
        input_adapter=adapter,
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **fields,
    )
