"""Perceiver IO from any modality to answers to queries, or to coordinates, given at every call."""

from flax import nnx

from perceiver_jax.core import PerceiverIO
from perceiver_jax.models.classifier import modality_encoder
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.query_decoder import QueryDecoderConfig, query_decoder
from perceiver_jax.models.release import Releasable


class ModalityPerceiverIO(PerceiverIO, Releasable):
    """Perceiver IO from inputs of one modality and queries [O, E] or [B, O, E] to answers.

    Shapes from point clouds, fields from sensors: whatever is asked for at coordinates.

    Args:
        config: with a `ModalityConfig` and a `QueryDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver IO §3; 3DShape2VecSet (Zhang et al. 2023) for points to occupancies.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        decoder = check_half(config.decoder, QueryDecoderConfig, "ModalityPerceiverIO")
        super().__init__(
            modality_encoder(config, "ModalityPerceiverIO", rngs=rngs),
            query_decoder(decoder, num_latent_channels=config.num_latent_channels, rngs=rngs),
        )
