"""Constructor arguments of lucidrains' classes.

- Arguments left out have lucidrains' own defaults; unknown ones are refused.
- An argument that a file does not tell holds a text that starts with `UNKNOWN`, and is refused in
  words that say how to give it: nothing is guessed.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from perceiver_jax.config import ConfigError, from_dict, setting, to_dict

CLASS = "class"
"""The key beside the arguments that names the class."""
UNKNOWN = "?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverArguments:
    """Arguments of `perceiver_pytorch.Perceiver`."""

    num_freq_bands: int = setting(doc="Fourier frequencies per axis")
    depth: int = setting(doc="layers of a cross-attention and self-attentions")
    max_freq: float = setting(doc="frequencies go from 1 to half of it")
    input_channels: int = 3
    input_axis: int = 2
    num_latents: int = 512
    latent_dim: int = 512
    cross_heads: int = 1
    latent_heads: int = 8
    cross_dim_head: int = 64
    latent_dim_head: int = 64
    num_classes: int = 1000
    attn_dropout: float = 0.0
    ff_dropout: float = 0.0
    weight_tie_layers: bool = False
    fourier_encode_data: bool = True
    self_per_cross_attn: int = 1
    final_classifier_head: bool = True
    inverted_cross_attn: bool | tuple[bool, ...] = False
    attn_residual: bool = False
    attn_residual_rank: int = 64

    @property
    def inverted_layers(self) -> tuple[int, ...]:
        """Numbers of the layers whose cross-attention is inverted."""
        each = self.inverted_cross_attn
        if isinstance(each, bool):
            each = (each,) * self.depth
        if len(each) != self.depth:
            raise ConfigError(
                f"inverted_cross_attn={list(each)} has {len(each)} entries for depth={self.depth}; "
                "give one bool, or one per layer"
            )
        return tuple(i for i, inverted in enumerate(each) if inverted)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverIOArguments:
    """Arguments of `perceiver_pytorch.PerceiverIO`."""

    depth: int = setting(doc="self-attention layers")
    dim: int = setting(doc="channels of the inputs")
    queries_dim: int = setting(doc="channels of the queries")
    logits_dim: int | None = None
    num_latents: int = 512
    latent_dim: int = 512
    cross_heads: int = 1
    latent_heads: int = 8
    cross_dim_head: int = 64
    latent_dim_head: int = 64
    weight_tie_layers: bool = False
    decoder_ff: bool = False
    seq_dropout_prob: float = 0.0
    attn_residual: bool = False
    attn_residual_rank: int = 64
    inverted_cross_attn: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverLMArguments:
    """Arguments of `perceiver_pytorch.PerceiverLM`, those that it hands on among them."""

    dim: int = setting(doc="channels of embedded tokens")
    num_tokens: int = setting(doc="size of the vocabulary")
    max_seq_len: int = setting(doc="most tokens of an example")
    depth: int = setting(doc="self-attention layers")
    num_latents: int = 512
    latent_dim: int = 512
    cross_heads: int = 1
    latent_heads: int = 8
    cross_dim_head: int = 64
    latent_dim_head: int = 64
    weight_tie_layers: bool = False
    decoder_ff: bool = False
    seq_dropout_prob: float = 0.0
    attn_residual: bool = False
    attn_residual_rank: int = 64
    inverted_cross_attn: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverARArguments:
    """Arguments of `perceiver_ar_pytorch.PerceiverAR`."""

    num_tokens: int = setting(doc="size of the vocabulary")
    dim: int = setting(doc="channels of embedded tokens and latents")
    depth: int = setting(doc="self-attention layers")
    max_seq_len: int = setting(doc="most tokens of an example: prefix and latents")
    cross_attn_seq_len: int = setting(doc="tokens of the prefix, in every example")
    dim_head: int = 64
    heads: int = 8
    dropout: float = 0.0
    cross_attn_dropout: float = 0.0
    ff_mult: int = 4
    perceive_depth: int = 1
    perceive_max_heads_process: int = setting(
        2, "heads of the cross-attentions computed at once, which changes nothing but memory"
    )


HalvesArguments = PerceiverArguments | PerceiverIOArguments | PerceiverLMArguments
"""Of models with an encoder and a decoder."""
AnyArguments = HalvesArguments | PerceiverARArguments
CLASSES: dict[str, type] = {
    "Perceiver": PerceiverArguments,
    "PerceiverIO": PerceiverIOArguments,
    "PerceiverLM": PerceiverLMArguments,
    "PerceiverAR": PerceiverARArguments,
}
MIN_ROTARY_CHANNELS = 32
"""Fewest channels of a head that a `PerceiverAR` turns by position; with smaller heads it fails."""


def parse(settings: Mapping[str, Any]) -> AnyArguments:
    """Arguments from settings: a dict of them, with the class under "class".

    Raises:
        ConfigError: an argument that is unknown, of another type, missing, or not told by the file;
            or one of a variant that is not supported.
    """
    left = dict(settings)
    name = left.pop(CLASS, None) or _class_of(left)
    if name not in CLASSES:
        raise ConfigError(
            f"lucidrains' class '{name}' is not supported; {', '.join(CLASSES)} are (the gated, "
            "mixed-latents and experimental variants are not)"
        )
    _refuse_unknown(name, left)
    arguments = from_dict(CLASSES[name], left, f"lucidrains' {name}")
    if isinstance(arguments, PerceiverARArguments):
        _check_autoregressive(arguments)
        return arguments
    if arguments.attn_residual:
        raise ConfigError("attn_residual=True (attention over earlier layers) is not supported")
    if isinstance(arguments, PerceiverArguments):
        if not arguments.final_classifier_head:
            raise ConfigError(
                "final_classifier_head=False is not supported: models here have a head. Give it "
                "one, and take the latents with model.encode(inputs), which does not use it"
            )
        if arguments.fourier_encode_data and not arguments.num_freq_bands:
            raise ConfigError(
                "num_freq_bands=0 with fourier_encode_data=True (bare coordinates) is not "
                "supported; give one band or more, or fourier_encode_data=False"
            )
    return arguments


def as_settings(arguments: AnyArguments) -> dict[str, Any]:
    """The inverse of `parse`."""
    names = {cls: name for name, cls in CLASSES.items()}
    return {CLASS: names[type(arguments)], **to_dict(arguments)}


def _check_autoregressive(arguments: PerceiverARArguments) -> None:
    prefix, context, dim_head = (
        arguments.cross_attn_seq_len,
        arguments.max_seq_len,
        arguments.dim_head,
    )
    if not 0 <= prefix < context:
        raise ConfigError(
            f"cross_attn_seq_len={prefix} is not between 0 and max_seq_len - 1 = {context - 1}: "
            "tokens after the prefix predict"
        )
    if dim_head < MIN_ROTARY_CHANNELS:
        raise ConfigError(
            f"dim_head={dim_head} is not supported: lucidrains' PerceiverAR turns "
            f"{MIN_ROTARY_CHANNELS} channels of a head by position, and fails if there are fewer"
        )


def _class_of(arguments: Mapping[str, Any]) -> str:
    """The class whose arguments these are."""
    if "cross_attn_seq_len" in arguments:
        return "PerceiverAR"
    if "num_tokens" in arguments or "max_seq_len" in arguments:
        return "PerceiverLM"
    if "queries_dim" in arguments or "dim" in arguments:
        return "PerceiverIO"
    if "num_freq_bands" in arguments or "max_freq" in arguments:
        return "Perceiver"
    raise ConfigError(
        f"arguments {sorted(arguments)} do not tell lucidrains' class; give one under '{CLASS}': "
        f"{' or '.join(CLASSES)}"
    )


def _refuse_unknown(name: str, settings: Mapping[str, Any]) -> None:
    unknown = {
        argument: value
        for argument, value in settings.items()
        if isinstance(value, str) and value.startswith(UNKNOWN)
    }
    if unknown:
        told = {CLASS: name} | {a: v for a, v in settings.items() if a not in unknown}
        listed = "".join(f"\n  {argument}: {value}" for argument, value in unknown.items())
        raise ConfigError(
            f"the files do not tell these arguments of lucidrains' {name}, and shapes do not "
            f"decide them:{listed}\nwrite all arguments that the model was built with as JSON "
            "beside the weights, under their name (model.pt: model.json), or into a file for "
            "--config=FILE.json; told by shapes: "
            f"{json.dumps(told)}"
        )
