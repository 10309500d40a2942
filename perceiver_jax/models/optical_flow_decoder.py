"""Decoders of optical flow: one query for every pixel."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import OpticalFlowOutputAdapter
from perceiver_jax.config import part, setting
from perceiver_jax.core import DecoderConfig, PerceiverDecoder
from perceiver_jax.core.linear import InitConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpticalFlowDecoderConfig(DecoderConfig):
    """A decoder that asks for every pixel with the pixel's token."""

    cross_attention_residual: bool = setting(
        False, "whether the output queries are added to what the cross-attention found"
    )
    rescale_factor: float = setting(100.0, "what outputs are divided by")
    flow_scale: float = setting(20.0, "pixels that 1 stands for after that")
    output_init_scale: float | None = setting(
        None,
        "standard deviation of the last layer's initial values; 0.0 starts at no flow (DeepMind); "
        "None: as the recipe has it",
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("rescale_factor", "flow_scale"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if self.output_init_scale is not None and self.output_init_scale < 0.0:
            raise ValueError(f"output_init_scale={self.output_init_scale} must be 0 or more")


def optical_flow_decoder(
    config: OpticalFlowDecoderConfig,
    *,
    num_output_query_channels: int,
    num_latent_channels: int,
    rngs: nnx.Rngs,
) -> PerceiverDecoder:
    """The decoder that the config describes, for tokens of that many channels."""
    init = config.init
    if config.output_init_scale is not None:
        init = InitConfig(scale=config.output_init_scale)
    return PerceiverDecoder(
        output_adapter=OpticalFlowOutputAdapter(
            num_output_query_channels=num_output_query_channels,
            rescale_factor=config.rescale_factor,
            flow_scale=config.flow_scale,
            init=init,
            rngs=rngs,
        ),
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, DecoderConfig),
    )
