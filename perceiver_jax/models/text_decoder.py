"""Decoders of text: logits over a vocabulary at every position."""

import dataclasses
from typing import Any

from flax import nnx

from perceiver_jax.adapters import TiedTokenOutputAdapter, TokenOutputAdapter
from perceiver_jax.adapters.text import TokenQueries
from perceiver_jax.config import part, setting
from perceiver_jax.core import DecoderConfig, PerceiverDecoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDecoderConfig(DecoderConfig):
    """A decoder of one query per token."""

    vocab_size: int = setting(262, "tokens to predict; 262 is the vocabulary of UTF-8 bytes")
    max_seq_len: int = setting(256, "most tokens of an example")
    num_output_query_channels: int | None = setting(
        None,
        "channels of the queries, with a linear layer to logits; None: those of the encoder's "
        "embedding, which then makes the logits (tied)",
    )
    output_queries: TokenQueries = setting(
        "trainable",
        "'trainable', one for each position; or 'inputs', the embedded inputs (lucidrains)",
    )
    mask_queries: bool = setting(
        True,
        "whether the attention result of padding is zero (DeepMind), or padding is asked for like "
        "any other position (PyTorch libraries)",
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("vocab_size", "max_seq_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    @property
    def tied(self) -> bool:
        """Whether logits are made with the encoder's embedding."""
        return self.num_output_query_channels is None


def text_decoder(
    config: TextDecoderConfig,
    *,
    num_embedding_channels: int,
    num_latent_channels: int,
    rngs: nnx.Rngs,
) -> PerceiverDecoder:
    """The decoder that the config describes, for an encoder whose embedding has those channels."""
    common: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "max_seq_len": config.max_seq_len,
        "num_output_query_channels": config.num_output_query_channels or num_embedding_channels,
        "output_queries": config.output_queries,
        "mask_queries": config.mask_queries,
        "init": config.init,
        "rngs": rngs,
    }
    adapter = TiedTokenOutputAdapter if config.tied else TokenOutputAdapter
    return PerceiverDecoder(
        output_adapter=adapter(**common),
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, DecoderConfig),
    )
