"""Configs of encoders and decoders as far as all families of the implementation share them.

- Its dataclasses and ours have the same names for the same fields.
- Exact GELU and uniform attention where everything is masked, in every family.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from interop.formats.settings import layer_settings
from perceiver_jax.config import ConfigError, suggestion
from perceiver_jax.core import DecoderConfig, EncoderConfig
from perceiver_jax.models import PerceiverConfig

LAYER_FIELDS = (
    "num_cross_attention_heads",
    "num_cross_attention_qk_channels",
    "num_cross_attention_v_channels",
    "cross_attention_widening_factor",
    "dropout",
    "init_scale",
)
ENCODER_FIELDS = (
    *LAYER_FIELDS,
    "num_cross_attention_layers",
    "first_cross_attention_layer_shared",
    "num_self_attention_heads",
    "num_self_attention_qk_channels",
    "num_self_attention_v_channels",
    "num_self_attention_layers_per_block",
    "num_self_attention_blocks",
    "first_self_attention_block_shared",
    "self_attention_widening_factor",
)
TEXT_ENCODER_FIELDS = (*ENCODER_FIELDS, "vocab_size", "max_seq_len", "num_input_channels")
DECODER_FIELDS = (*LAYER_FIELDS, "cross_attention_residual")
CLASSIFICATION_DECODER_FIELDS = (
    *DECODER_FIELDS,
    "num_classes",
    "num_output_queries",
    "num_output_query_channels",
)
OF_TRAINING = ("freeze", "params")
"""Fields that say what to train and with which weights to start, not what to compute."""
OF_THE_WHOLE = (
    "num_latents",
    "num_latent_channels",
    "activation_checkpointing",
    "activation_offloading",
)
"""Fields beside the halves."""
TEXT_ENCODER_DEFAULTS = {"vocab_size": 10003, "max_seq_len": 256, "num_input_channels": 64}
"""What their text encoders have where nothing is given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halves:
    """A config of the reference taken apart.

    Attributes:
        encoder: fields of ours, as given.
        decoder: fields of ours, as given.
        latents: number and channels of the latents, as `PerceiverConfig` has them.
    """

    encoder: dict[str, Any]
    decoder: dict[str, Any]
    latents: dict[str, Any]


def paths(encoder_fields: tuple[str, ...], decoder_fields: tuple[str, ...]) -> frozenset[str]:
    """The fields of a family of models, each half's after its name."""
    named = (("encoder", encoder_fields), ("decoder", decoder_fields))
    return frozenset(OF_THE_WHOLE) | {f"{half}.{name}" for half, names in named for name in names}


def given(hyperparameters: Mapping[str, Any], half: str) -> dict[str, Any]:
    """The encoder or decoder of a config of the reference; empty where it is none.

    Args:
        hyperparameters: nested dict of dataclasses.
        half: "encoder" or "decoder".
    """
    fields = hyperparameters.get(half)
    if not isinstance(fields, Mapping):
        return {}
    return {name: value for name, value in fields.items() if name not in OF_TRAINING}


def parse(
    hyperparameters: Mapping[str, Any],
    what: str,
    encoder_fields: tuple[str, ...],
    decoder_fields: tuple[str, ...],
) -> Halves:
    """Takes a config of the reference apart, of which every field has to be known.

    Args:
        hyperparameters: nested dict of dataclasses.
        what: the kind of model, for messages.
        encoder_fields: names that its encoder has.
        decoder_fields: names that its decoder has.

    Raises:
        ConfigError: a field is missing or unknown.
    """
    left = dict(hyperparameters)
    for name in ("encoder", "decoder", "num_latents", "num_latent_channels"):
        if name not in left:
            raise ConfigError(f"the hyperparameters of {what} have no '{name}'")
    for half, known in (("encoder", encoder_fields), ("decoder", decoder_fields)):
        if not isinstance(left.pop(half), Mapping):
            raise ConfigError(f"the {half} of {what} is no group of fields")
        for name in given(hyperparameters, half):
            if name not in known:
                raise ConfigError(f"config.{half} has no field '{name}'{suggestion(name, known)}")
    remat = left.pop("activation_checkpointing", False)
    left.pop("activation_offloading", None)
    latents = {name: left.pop(name) for name in ("num_latents", "num_latent_channels")}
    if left:
        raise ConfigError(f"settings {sorted(left)} are not those of {what}")
    common = {"masked_rows": "uniform"}
    return Halves(
        encoder={**given(hyperparameters, "encoder"), "remat": remat, **common},
        decoder={**given(hyperparameters, "decoder"), **common},
        latents=latents,
    )


def settings(
    config: PerceiverConfig, encoder_fields: tuple[str, ...], decoder_fields: tuple[str, ...]
) -> dict[str, Any]:
    """The reference's config, as a nested dict of its dataclasses."""
    return {
        "encoder": _fields(config.encoder, encoder_fields),
        "decoder": _fields(config.decoder, decoder_fields),
        "num_latents": config.num_latents,
        "num_latent_channels": config.num_latent_channels,
        "activation_checkpointing": config.encoder.remat != "none",
    }


def _fields(half: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Fields that have one name on both sides."""
    values = {name: getattr(half, name) for name in names}
    lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    return values | lists | {"init_scale": 0.02 if half.init_scale is None else half.init_scale}


def requirements(encoder: EncoderConfig, decoder: DecoderConfig) -> dict[str, tuple[Any, Any]]:
    """What no family lets choose, as (value, the one it has to be)."""
    return {
        "encoder.cross_attention_residual": (encoder.cross_attention_residual, True),
        "encoder.inverted_cross_attention": (encoder.inverted_cross_attention, ()),
        "encoder.repeated_layers_shared": (
            encoder.repeated_layers_shared or len(encoder.schedule) <= 2,
            True,
        ),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        **layer_settings(encoder, decoder, activation="gelu"),
    }
