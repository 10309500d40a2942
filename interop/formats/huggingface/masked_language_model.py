"""Their masked language model.

- Channels, heads and residual of its decoder stand in their code, see `requirements`.
- Padding is asked for like any other position, whatever the attention mask says.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.huggingface import text_encoder
from interop.formats.huggingface.config_json import (
    architecture,
    complete_settings,
    layer_fields,
    layer_requirements,
)
from interop.formats.huggingface.layers import cross_layer
from interop.formats.settings import check_settings
from interop.rows import Row, row, table
from perceiver_jax.config import KIND, from_dict
from perceiver_jax.models import (
    MaskedLanguageModel,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "Hugging Face's masked language model"
MODELS = (MaskedLanguageModel,)
CLASSES = ("PerceiverForMaskedLM",)
DECODER_HEADS = 8
DECODER_QK_CHANNELS = 8 * 32


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from a `config.json`.

    Raises:
        ConfigError: a setting that is unknown, or one that cannot be expressed.
    """
    architecture(settings, CLASSES)
    complete = complete_settings(settings)
    decoder = {
        KIND: TextDecoderConfig.__name__,
        **layer_fields(complete),
        "vocab_size": complete["vocab_size"],
        "max_seq_len": complete["max_position_embeddings"],
        "num_cross_attention_heads": DECODER_HEADS,
        "num_cross_attention_qk_channels": DECODER_QK_CHANNELS,
        "num_cross_attention_v_channels": complete["d_model"],
        "cross_attention_residual": False,
        "mask_queries": False,
    }
    tree = {
        "encoder": text_encoder.fields(complete),
        "decoder": decoder,
        "num_latents": complete["num_latents"],
        "num_latent_channels": complete["d_latents"],
    }
    return from_dict(PerceiverConfig, tree, "config.json as our config")


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """A `config.json` that describes the model.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, _ = _halves(config)
    return {
        "architectures": list(CLASSES),
        "model_type": "perceiver",
        **text_encoder.settings(config, encoder),
    }


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their class does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: it is another kind of model.
    """
    encoder, decoder = _halves(config)
    channels = encoder.num_input_channels
    qk_channels = decoder.num_cross_attention_qk_channels or (
        decoder.num_output_query_channels or channels
    )
    v_channels = decoder.num_cross_attention_v_channels or qk_channels
    return {
        **text_encoder.requirements(config, encoder),
        "decoder.max_seq_len": (decoder.max_seq_len, encoder.max_seq_len),
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.num_output_query_channels": (decoder.num_output_query_channels, None),
        "decoder.num_cross_attention_heads": (decoder.num_cross_attention_heads, DECODER_HEADS),
        "decoder.num_cross_attention_qk_channels": (qk_channels, DECODER_QK_CHANNELS),
        "decoder.num_cross_attention_v_channels": (v_channels, channels),
        "decoder.cross_attention_widening_factor": (decoder.cross_attention_widening_factor, 1),
        "decoder.cross_attention_residual": (decoder.cross_attention_residual, False),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        **layer_requirements(encoder, decoder),
    }


def _halves(config: PerceiverConfig) -> tuple[TextEncoderConfig, TextDecoderConfig]:
    return (
        check_half(config.encoder, TextEncoderConfig, WHOSE),
        check_half(config.decoder, TextDecoderConfig, WHOSE),
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `PerceiverForMaskedLM`.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    return state_dict_rows(config)


def state_dict_rows(config: PerceiverConfig) -> list[Row]:
    """The rows of any model made of their modules, also in sizes that the class does not have."""
    encoder, _ = _halves(config)
    decoder = "perceiver.decoder"
    return table(
        [
            *text_encoder.rows(encoder),
            *cross_layer("decoder/cross_attention", f"{decoder}.decoding_cross_attention"),
            row(
                "decoder/output_adapter/queries",
                f"{decoder}.output_position_encodings.position_embeddings",
            ),
            row("decoder/output_adapter/bias", "embedding_decoder.bias"),
        ]
    )
