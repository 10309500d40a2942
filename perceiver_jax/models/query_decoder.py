"""Decoders of queries that the caller gives: one answer per query, whatever it asks for."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import GivenQueriesOutputAdapter
from perceiver_jax.config import part, setting
from perceiver_jax.core import DecoderConfig, PerceiverDecoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryDecoderConfig(DecoderConfig):
    """A decoder of given queries [O, E] or [B, O, E] (Perceiver IO)."""

    num_output_query_channels: int = setting(256, "channels E of the queries")
    num_outputs: int | None = setting(
        None, "channels of an output, by a linear layer; None: answers as they are, of E channels"
    )


def query_decoder(
    config: QueryDecoderConfig, *, num_latent_channels: int, rngs: nnx.Rngs
) -> PerceiverDecoder:
    """The decoder that the config describes."""
    adapter = GivenQueriesOutputAdapter(
        num_output_query_channels=config.num_output_query_channels,
        num_outputs=config.num_outputs,
        init=config.init,
        rngs=rngs,
    )
    return PerceiverDecoder(
        output_adapter=adapter,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, DecoderConfig),
    )
