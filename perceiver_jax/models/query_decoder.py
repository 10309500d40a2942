"""Decoders of queries that the caller gives: one answer per query, whatever it asks for."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import CoordinateQueryAdapter, GivenQueriesOutputAdapter
from perceiver_jax.config import part, setting
from perceiver_jax.core import DecoderConfig, PerceiverDecoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryDecoderConfig(DecoderConfig):
    """A decoder of given queries [O, E] or [B, O, E], or of coordinates [O, d] or [B, O, d]."""

    num_output_query_channels: int = setting(256, "channels E of the queries")
    num_outputs: int | None = setting(
        None, "channels of an output, by a linear layer; None: answers as they are, of E channels"
    )
    num_coordinates: int | None = setting(
        None, "coordinates d that queries are given as; None: queries are given as they are"
    )
    num_coordinate_bands: int = setting(64, "Fourier frequencies of each coordinate")
    max_coordinate_resolution: float = setting(
        64.0, "frequencies of coordinates in [-1, 1] go from 1 to half of it"
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
    coordinates = None
    if config.num_coordinates is not None:
        coordinates = CoordinateQueryAdapter(
            num_coordinates=config.num_coordinates,
            num_frequency_bands=config.num_coordinate_bands,
            max_resolution=config.max_coordinate_resolution,
            num_output_query_channels=config.num_output_query_channels,
            init=config.init,
            rngs=rngs,
        )
    return PerceiverDecoder(
        output_adapter=adapter,
        query_adapter=coordinates,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, DecoderConfig),
    )
