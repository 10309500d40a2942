"""Optical flow: two frames in, the displacement of every pixel out.

- The published DeepMind model is at the end.
"""

from typing import Any

import jax
from flax import nnx

from perceiver_jax.core import PerceiverIO
from perceiver_jax.models.optical_flow_decoder import (
    OpticalFlowDecoderConfig,
    optical_flow_decoder,
)
from perceiver_jax.models.optical_flow_encoder import (
    OpticalFlowEncoderConfig,
    optical_flow_encoder,
)
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.release import Releasable
from perceiver_jax.typing import Array


class OpticalFlow(PerceiverIO, Releasable):
    """Perceiver IO from frames [B, 2, H, W, 3] in [-1, 1] to flow [B, H, W, 2], pixels, (dx, dy).

    With `query_indices` [B, o], the flow of these pixels alone, [B, o, 2], counted row by row.

    Args:
        config: with an `OpticalFlowEncoderConfig` and an `OpticalFlowDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver IO §4.2; deepmind optical flow colab, krasserm `OpticalFlow`.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, OpticalFlowEncoderConfig, "OpticalFlow")
        decoder = check_half(config.decoder, OpticalFlowDecoderConfig, "OpticalFlow")
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        half = optical_flow_encoder(encoder, num_latents=config.num_latents, **latents)
        num_channels = half.input_adapter.num_input_channels
        super().__init__(
            half,
            optical_flow_decoder(decoder, num_output_query_channels=num_channels, **latents),
        )

    def __call__(self, inputs: Array, *args: Any, **kwargs: Any) -> jax.Array:
        """Predicts flow; arguments as of `PerceiverIO`."""
        flow = super().__call__(inputs, *args, **kwargs)
        if kwargs.get("query_indices") is not None or kwargs.get("queries") is not None:
            return flow
        return flow.reshape(len(flow), *self.encoder.input_adapter.image_shape, 2)


def optical_flow_perceiver(**encoder_fields: Any) -> PerceiverConfig:
    """DeepMind's model of optical flow: 41,057,134 parameters.

    Source: Perceiver IO appendix H; deepmind `optical_flow_checkpoint`.
    """
    common: dict[str, Any] = {
        "activation": "gelu_tanh",
        "init_method": "variance_scaling",
        "num_cross_attention_heads": 1,
    }
    encoder: dict[str, Any] = {
        "num_self_attention_heads": 16,
        "num_self_attention_layers_per_block": 24,
    }
    return PerceiverConfig(
        encoder=OpticalFlowEncoderConfig(**(common | encoder | encoder_fields)),
        decoder=OpticalFlowDecoderConfig(
            num_cross_attention_qk_channels=512,
            num_cross_attention_v_channels=512,
            output_init_scale=0.0,
            **common,
        ),
        num_latents=2048,
        num_latent_channels=512,
    )
