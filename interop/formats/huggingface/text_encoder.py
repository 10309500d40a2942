"""Their encoder of token ids: what its two kinds of models have in common."""

from collections.abc import Mapping
from typing import Any

from interop.formats.huggingface.config_json import (
    encoder_fields,
    encoder_requirements,
    encoder_settings,
)
from interop.formats.huggingface.layers import encoder_rows
from interop.rows import Row, row
from perceiver_jax.config import KIND
from perceiver_jax.models import PerceiverConfig, TextEncoderConfig

THEIRS = "perceiver.input_preprocessor"


def fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Our `TextEncoderConfig` as a tree, from complete settings."""
    return {
        KIND: TextEncoderConfig.__name__,
        **encoder_fields(settings, settings["d_model"]),
        "vocab_size": settings["vocab_size"],
        "max_seq_len": settings["max_position_embeddings"],
        "num_input_channels": settings["d_model"],
    }


def settings(config: PerceiverConfig, encoder: TextEncoderConfig) -> dict[str, Any]:
    """What a `config.json` says of vocabulary, latents and encoder."""
    return {
        **encoder_settings(config, encoder.num_input_channels),
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.max_seq_len,
    }


def requirements(config: PerceiverConfig, encoder: TextEncoderConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that cannot be chosen, as (value, the one it has to be)."""
    return encoder_requirements(config, encoder.num_input_channels)


def rows(encoder: TextEncoderConfig) -> list[Row]:
    """A `PerceiverTextPreprocessor` and the encoder."""
    return [
        row("encoder/input_adapter/token_embedding", f"{THEIRS}.embeddings.weight"),
        row("encoder/input_adapter/position_embedding", f"{THEIRS}.position_embeddings.weight"),
        *encoder_rows(encoder.num_self_attention_layers_per_block),
    ]
