"""What all of Hugging Face's Perceivers have in their `config.json`: encoder, names to ignore.

- Which class a `config.json` is of stands in its `architectures`.
- One `hidden_act`, one rate of dropout and one recipe of initial values for all layers.
- A setting that is none of those known here is refused: it might change the computation.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from interop.formats import hub_folder
from interop.formats.channels import nearest_channels
from interop.formats.settings import layer_settings
from perceiver_jax.config import ConfigError, suggestion
from perceiver_jax.core import DecoderConfig
from perceiver_jax.core.layer_options import LayerOptions
from perceiver_jax.models import PerceiverConfig

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
}
"""`hidden_act` and our `activation`; of several names for one function, the first is written."""
DEFAULTS: dict[str, Any] = {
    "num_latents": 256,
    "d_latents": 1280,
    "d_model": 768,
    "num_blocks": 1,
    "num_self_attends_per_block": 26,
    "num_self_attention_heads": 8,
    "num_cross_attention_heads": 8,
    "qk_channels": None,
    "v_channels": None,
    "cross_attention_shape_for_attention": "kv",
    "self_attention_widening_factor": 1,
    "cross_attention_widening_factor": 1,
    "hidden_act": "gelu",
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "use_query_residual": True,
    "vocab_size": 262,
    "max_position_embeddings": 2048,
    "image_size": 56,
    "train_size": [368, 496],
    "num_frames": 16,
    "audio_samples_per_frame": 1920,
    "samples_per_patch": 16,
    "output_shape": [1, 16, 224, 224],
    "output_num_channels": 512,
    "_label_trainable_num_channels": 1024,
    "num_labels": 2,
}
"""What their config class takes for settings that `config.json` does not have."""
UNREAD = ("layer_norm_eps",)
"""Settings of their config class that none of their models reads."""
OURS = ("image_shape", *hub_folder.PROVENANCE)
"""Settings that are not theirs; their code ignores them."""
GENERIC = (
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
)
"""Settings that every model of the library has or had, none of which changes what these compute.

`pruned_heads` and `quantization_config` are not among them.
"""


def architecture(settings: Mapping[str, Any], classes: Iterable[str]) -> str:
    """Name of the class that a `config.json` is of.

    Args:
        settings: of the `config.json`.
        classes: those that are known.

    Raises:
        ConfigError: it is of none of them, or of several.
    """
    architectures = settings.get("architectures")
    given = architectures if isinstance(architectures, list | tuple) else ()
    classes = list(classes)
    found = [name for name in classes if name in given]
    if "format_version" in settings:
        raise ConfigError("this is a release of ours; read it with the format 'ours'")
    if len(found) != 1:
        raise ConfigError(
            f"config.json has architectures={architectures!r}; it takes one of {', '.join(classes)}"
        )
    return found[0]


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with defaults for what is not given.

    Args:
        settings: of a `config.json`.

    Raises:
        ConfigError: a setting is unknown, or has an unknown value.
    """
    refuse_unknown(settings, DEFAULTS, (*OURS, *UNREAD))
    result = DEFAULTS | dict(settings)
    labels = settings.get("id2label")
    if labels is not None:
        if not isinstance(labels, Mapping):
            raise ConfigError(f"config.json: id2label={labels!r} is no mapping of names of classes")
        result["num_labels"] = len(labels)
    for name, known in (
        ("hidden_act", tuple(ACTIVATIONS)),
        ("cross_attention_shape_for_attention", ("kv", "q")),
    ):
        if result[name] not in known:
            raise ConfigError(f"config.json: {name}={result[name]!r}; known are {', '.join(known)}")
    return result


def refuse_unknown(
    settings: Mapping[str, Any], known: Iterable[str], ignored: Iterable[str] = ()
) -> None:
    """Raises a ConfigError for a setting that might change the computation.

    Args:
        settings: of a `config.json`, or of a part of it.
        known: names of settings that are read.
        ignored: names of settings that change nothing, beside those of every model.
    """
    known = list(known)
    for name, value in settings.items():
        # Empty, it prunes nothing.
        if name in (*known, *ignored, *GENERIC) or (name == "pruned_heads" and not value):
            continue
        raise ConfigError(
            f"config.json has the unknown setting {name}={value!r}{suggestion(name, known)}; if it "
            "does not change the computation, remove it"
        )


def layer_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of our `LayerOptions`, of encoder and decoder alike, from complete settings."""
    return {
        "activation": ACTIVATIONS[settings["hidden_act"]],
        "dropout": settings["attention_probs_dropout_prob"],
        "init_scale": settings["initializer_range"],
        "masked_rows": "uniform",
    }


def encoder_fields(
    settings: Mapping[str, Any], num_input_channels: int | None = None
) -> dict[str, Any]:
    """Fields of our `EncoderConfig` from complete settings.

    Args:
        settings: of a `config.json`.
        num_input_channels: channels of a token, where our config does not take them by itself for
            queries and keys.
    """
    by_queries = settings["cross_attention_shape_for_attention"] == "q"
    return {
        **layer_fields(settings),
        "num_cross_attention_heads": settings["num_cross_attention_heads"],
        "num_cross_attention_qk_channels": settings["qk_channels"]
        or (settings["d_latents"] if by_queries else num_input_channels),
        "num_cross_attention_v_channels": settings["v_channels"],
        "cross_attention_widening_factor": settings["cross_attention_widening_factor"],
        "cross_attention_residual": settings["use_query_residual"],
        "num_self_attention_heads": settings["num_self_attention_heads"],
        "num_self_attention_qk_channels": settings["qk_channels"],
        "num_self_attention_v_channels": settings["v_channels"],
        "num_self_attention_layers_per_block": settings["num_self_attends_per_block"],
        "num_self_attention_blocks": settings["num_blocks"],
        "self_attention_widening_factor": settings["self_attention_widening_factor"],
    }


def encoder_settings(
    config: PerceiverConfig, num_input_channels: int, decoder: DecoderConfig | None = None
) -> dict[str, Any]:
    """What a `config.json` says of latents and encoder; the inverse of `encoder_fields`.

    Args:
        config: ours.
        num_input_channels: channels of a token, position included.
        decoder: as of `nearest_channels`.
    """
    encoder = config.encoder
    channels = nearest_channels(config, num_input_channels, decoder)
    normal = encoder.init_method == "normal" and encoder.init_scale is not None
    return {
        "num_latents": config.num_latents,
        "d_latents": config.num_latent_channels,
        "d_model": num_input_channels,
        "num_blocks": encoder.num_self_attention_blocks,
        "num_self_attends_per_block": encoder.num_self_attention_layers_per_block,
        "num_self_attention_heads": encoder.num_self_attention_heads,
        "num_cross_attention_heads": encoder.num_cross_attention_heads,
        "qk_channels": channels.qk_channels,
        "v_channels": channels.v_channels,
        "cross_attention_shape_for_attention": channels.shape_for,
        "self_attention_widening_factor": encoder.self_attention_widening_factor,
        "cross_attention_widening_factor": encoder.cross_attention_widening_factor,
        "hidden_act": next(
            name for name, ours in ACTIVATIONS.items() if ours == encoder.activation
        ),
        "attention_probs_dropout_prob": encoder.dropout,
        "initializer_range": encoder.init_scale if normal else DEFAULTS["initializer_range"],
        "use_query_residual": encoder.cross_attention_residual,
    }


def encoder_requirements(
    config: PerceiverConfig, num_input_channels: int, decoder: DecoderConfig | None = None
) -> dict[str, tuple[Any, Any]]:
    """Settings of encoders that no `config.json` can choose, as (value, the one it has to be).

    Args:
        config: ours.
        num_input_channels: channels of a token, position included.
        decoder: as of `nearest_channels`; its channels are then among the settings.
    """
    encoder, num_blocks = config.encoder, config.encoder.num_self_attention_blocks
    shared = encoder.first_self_attention_block_shared or num_blocks == 1
    repeated = encoder.repeated_layers_shared or num_blocks <= 2
    heads = {
        name: getattr(encoder, name)
        for name in ("num_cross_attention_heads", "num_self_attention_heads")
    }
    return {
        "encoder.num_cross_attention_layers": (encoder.num_cross_attention_layers, 1),
        "encoder.first_self_attention_block_shared": (shared, True),
        "encoder.repeated_layers_shared": (repeated, True),
        "encoder.inverted_cross_attention": (encoder.inverted_cross_attention, ()),
        **{
            f"encoder.{name}": (number, number if config.num_latent_channels % number == 0 else 1)
            for name, number in heads.items()
        },
        **nearest_channels(config, num_input_channels, decoder).pairs,
    }


def layer_requirements(encoder: LayerOptions, decoder: LayerOptions) -> dict[str, tuple[Any, Any]]:
    """What all their layers have in common, as (value, the one it has to be)."""
    known = encoder.activation in ACTIVATIONS.values()
    return layer_settings(encoder, decoder, activation=encoder.activation if known else "gelu")
