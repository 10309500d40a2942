"""Encoders of arrays: time series, point sets, grids of any number of axes."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import ArrayInputAdapter
from perceiver_jax.adapters.input_arrays import FreeSize, InputArray, InputArrays
from perceiver_jax.config import part, setting
from perceiver_jax.core import EncoderConfig, PerceiverEncoder
from perceiver_jax.core.position import ChannelOrder


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayEncoderConfig(EncoderConfig):
    """An encoder of arrays [B, *grid, c]."""

    num_input_channels: int = setting(doc="channels c of an element, positions not counted")
    num_axes: int = setting(1, "axes of the grid: 1 for sequences and sets, 2 for images")
    num_frequency_bands: int = setting(
        0, "Fourier frequencies per axis; 0 leaves positions out", minimum=0
    )
    max_frequency: float | None = setting(
        None,
        "frequencies go from 1 to half of this on every axis; None: to half of the axis' size",
    )
    position_channel_order: ChannelOrder = setting(
        "deepmind", "in which order Fourier channels lie: 'deepmind' or 'lucidrains'"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.max_frequency is not None and not self.num_frequency_bands:
            raise ValueError(
                f"max_frequency={self.max_frequency} has no meaning with num_frequency_bands=0; "
                "leave it unset, or give a number of bands"
            )

    def input_arrays(self) -> InputArrays:
        """What the model is called with."""
        axes = [FreeSize(f"axis{i}") for i in range(self.num_axes)]
        shape, meaning = (*axes, self.num_input_channels), "elements on their grid"
        return {"inputs": InputArray(shape=shape, dtype="float32", meaning=meaning)}


def array_input_adapter(config: ArrayEncoderConfig) -> ArrayInputAdapter:
    """The input adapter that the config describes."""
    return ArrayInputAdapter(
        num_input_channels=config.num_input_channels,
        num_axes=config.num_axes,
        num_frequency_bands=config.num_frequency_bands,
        max_frequency=config.max_frequency,
        channel_order=config.position_channel_order,
    )


def array_encoder(
    config: ArrayEncoderConfig, *, num_latents: int, num_latent_channels: int, rngs: nnx.Rngs
) -> PerceiverEncoder:
    """The encoder that the config describes."""
    return PerceiverEncoder(
        input_adapter=array_input_adapter(config),
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, EncoderConfig),
    )
