"""Perceivers of arrays: the original one, and Perceiver IO with queries given at every call.

- `ArrayPerceiver(config, rngs=nnx.Rngs(0))(series)` is all there is to it: time series [B, M, c],
  point sets, grids [B, H, W, c], volumes.
"""

from typing import Any

from flax import nnx

from perceiver_jax.core import Perceiver, PerceiverIO
from perceiver_jax.models.array_encoder import ArrayEncoderConfig, array_encoder
from perceiver_jax.models.classification_decoder import MeanPoolDecoderConfig, mean_pool_head
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.query_decoder import QueryDecoderConfig, query_decoder
from perceiver_jax.models.release import Releasable


class ArrayPerceiver(Perceiver, Releasable):
    """The original Perceiver from arrays [B, *grid, c] to logits [B, classes].

    Args:
        config: with an `ArrayEncoderConfig` and a `MeanPoolDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver §3; lucidrains `Perceiver`.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, ArrayEncoderConfig, "ArrayPerceiver")
        decoder = check_half(config.decoder, MeanPoolDecoderConfig, "ArrayPerceiver")
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        super().__init__(
            array_encoder(encoder, num_latents=config.num_latents, **latents),
            mean_pool_head(decoder, **latents),
        )


class ArrayPerceiverIO(PerceiverIO, Releasable):
    """Perceiver IO from arrays [B, *grid, c] and queries [O, E] or [B, O, E] to answers.

    Args:
        config: with an `ArrayEncoderConfig` and a `QueryDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver IO §3; lucidrains `PerceiverIO`.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, ArrayEncoderConfig, "ArrayPerceiverIO")
        decoder = check_half(config.decoder, QueryDecoderConfig, "ArrayPerceiverIO")
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        super().__init__(
            array_encoder(encoder, num_latents=config.num_latents, **latents),
            query_decoder(decoder, **latents),
        )
