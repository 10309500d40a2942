"""DeepMind's masked language model.

- Queries are one per position and masked where the input is; logits are made with the embedding.
- Arguments stand by module: `encoder`, `decoder`; the sizes of embedding and positions beside them.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.deepmind import encoders
from interop.formats.deepmind.encoders import refuse
from interop.formats.deepmind.layers import cross_layer, encoder_rows
from interop.formats.settings import check_settings, layer_settings
from interop.rows import Row, row, table
from perceiver_jax.models import (
    MaskedLanguageModel,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "DeepMind's language model"
MODELS = (MaskedLanguageModel,)
TASK = "masked_lm"
EMBEDDING = "params/embed/embeddings"
DECODER = "params/basic_decoder"


def config(meta: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the arguments of DeepMind's modules.

    Args:
        meta: `vocab_size`, `d_model`, `max_seq_len`, and by module `encoder` and `decoder`: the
            keyword arguments of `PerceiverEncoder` and `BasicDecoder`. What is left out of these
            has DeepMind's default.

    Raises:
        UserError: an argument that is unknown, or has a value that cannot be expressed.
    """
    left = dict(meta)
    check_settings("perceiver_jax.models.MaskedLanguageModel", {"task": (left.pop("task"), TASK)})
    num_channels = left.pop("d_model")
    sizes = {name: left.pop(name) for name in ("vocab_size", "max_seq_len")}
    encoder, decoder = (dict(left.pop(name)) for name in ("encoder", "decoder"))
    refuse("model", left)
    num_latents = encoder.pop("z_index_dim", 512)
    num_latent_channels = encoder.pop("num_z_channels", 1024)
    common: dict[str, Any] = {
        "activation": "gelu_tanh",
        "init_method": "variance_scaling",
        **sizes,
    }
    expected = {
        "output_index_dims": (decoder.pop("output_index_dims", None), sizes["max_seq_len"]),
        "num_channels": (_query_channels(decoder), num_channels),
    }
    check_settings("perceiver_jax.models.MaskedLanguageModel", expected)
    return PerceiverConfig(
        encoder=TextEncoderConfig(
            num_input_channels=num_channels,
            **common,
            **encoders.fields(encoder, num_latent_channels, num_channels),
        ),
        decoder=TextDecoderConfig(**common, **_decoder_fields(decoder, num_latent_channels)),
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
    )


def _query_channels(left: dict[str, Any]) -> int:
    queries = dict(left.pop("trainable_position_encoding_kwargs"))
    # How they start says nothing of what they are.
    queries.pop("init_scale", None)
    queries.pop("index_dim", None)
    num_channels = queries.pop("num_channels")
    refuse("decoder queries", queries)
    return num_channels


def _decoder_fields(left: dict[str, Any], num_latent_channels: int) -> dict[str, Any]:
    """Fields of a `TextDecoderConfig` from arguments of `BasicDecoder`."""
    # Channels of a projection that there is not, and of latents, which tell their own.
    for name in ("output_num_channels", "num_z_channels"):
        left.pop(name, None)
    expected = {
        "position_encoding_type": (left.pop("position_encoding_type", "trainable"), "trainable"),
        "final_project": (left.pop("final_project", True), False),
        "concat_preprocessed_input": (left.pop("concat_preprocessed_input", False), False),
    }
    check_settings("perceiver_jax.models.MaskedLanguageModel", expected)
    fields = {
        "num_cross_attention_heads": left.pop("num_heads", 1),
        # DeepMind's default are the channels of what is attended to, ours those of the queries.
        "num_cross_attention_qk_channels": left.pop("qk_channels", None) or num_latent_channels,
        "num_cross_attention_v_channels": left.pop("v_channels", None),
        "cross_attention_residual": left.pop("use_query_residual", False),
    }
    refuse("decoder", left)
    return fields


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The arguments that make DeepMind's modules compute what a config of ours computes.

    Args:
        config: of a model that DeepMind's code has, see `requirements`.
    """
    encoder, decoder = _halves(config)
    channels = encoder.num_input_channels
    return {
        "task": TASK,
        "vocab_size": encoder.vocab_size,
        "d_model": channels,
        "max_seq_len": encoder.max_seq_len,
        "encoder": encoders.arguments(config, channels),
        "decoder": {
            "output_num_channels": config.num_latent_channels,
            "output_index_dims": encoder.max_seq_len,
            "num_z_channels": config.num_latent_channels,
            "position_encoding_type": "trainable",
            "trainable_position_encoding_kwargs": {"num_channels": channels},
            "num_heads": decoder.num_cross_attention_heads,
            "qk_channels": decoder.num_cross_attention_qk_channels or channels,
            "v_channels": decoder.num_cross_attention_v_channels,
            "final_project": False,
            "use_query_residual": decoder.cross_attention_residual,
        },
    }


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that DeepMind's code does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: the model is no masked language model.
    """
    encoder, decoder = _halves(config)
    return {
        **encoders.requirements(config, encoder.num_input_channels),
        "decoder.max_seq_len": (decoder.max_seq_len, encoder.max_seq_len),
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.num_output_query_channels": (decoder.num_output_query_channels, None),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        "decoder.cross_attention_widening_factor": (decoder.cross_attention_widening_factor, 1),
        **layer_settings(encoder, decoder, activation="gelu_tanh"),
    }


def _halves(config: PerceiverConfig) -> tuple[TextEncoderConfig, TextDecoderConfig]:
    return (
        check_half(config.encoder, TextEncoderConfig, WHOSE),
        check_half(config.decoder, TextDecoderConfig, WHOSE),
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """Parameters of a masked language model.

    Raises:
        UserError: DeepMind's code has no such model.
    """
    check_settings(WHOSE, requirements(config))
    ours = "encoder/input_adapter"
    return table(
        [
            row(f"{ours}/token_embedding", EMBEDDING),
            row(f"{ours}/position_embedding", "params/trainable_position_encoding/pos_embs"),
            *encoder_rows(config.encoder.num_self_attention_layers_per_block),
            *cross_layer("decoder/cross_attention", f"{DECODER}/cross_attention"),
            row(
                "decoder/output_adapter/queries",
                f"{DECODER}/~/trainable_position_encoding/pos_embs",
            ),
            row("decoder/output_adapter/bias", "params/embedding_decoder/bias"),
        ]
    )
