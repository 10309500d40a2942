"""Constructor arguments of lucidrains' `Perceiver` and `PerceiverIO`, and what shapes tell of them.

- Arguments left out have lucidrains' own defaults; unknown ones are refused.
- An argument that a file does not tell holds a text that starts with `UNKNOWN`, and is refused in
  words that say how to give it: nothing is guessed.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.files import FileError
from perceiver_jax.config import ConfigError, from_dict, setting, to_dict

CLASS = "class"
"""The key beside the arguments that names the class."""
UNKNOWN = "?"

Arrays = Mapping[str, np.ndarray]


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


CLASSES: dict[str, type] = {"Perceiver": PerceiverArguments, "PerceiverIO": PerceiverIOArguments}


def parse(settings: Mapping[str, Any]) -> PerceiverArguments | PerceiverIOArguments:
    """Arguments from settings: a dict of them, with the class under "class".

    Raises:
        ConfigError: an argument that is unknown, of another type, missing, or not told by the file;
            or one of a variant that is not supported.
    """
    left = dict(settings)
    name = left.pop(CLASS, None) or _class_of(left)
    if name not in CLASSES:
        raise ConfigError(
            f"lucidrains' class '{name}' is not supported; {' and '.join(CLASSES)} are (the gated, "
            "mixed-latents and experimental variants are not)"
        )
    _refuse_unknown(name, left)
    arguments = from_dict(CLASSES[name], left, f"arguments of lucidrains' {name}")
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


def as_settings(arguments: PerceiverArguments | PerceiverIOArguments) -> dict[str, Any]:
    """The inverse of `parse`."""
    names = {cls: name for name, cls in CLASSES.items()}
    return {CLASS: names[type(arguments)], **to_dict(arguments)}


def class_of(arrays: Arrays) -> str:
    """The class that a state dict with names of 0.11 belongs to.

    Raises:
        FileError: it is none of them, or an unsupported one.
    """
    variants = {
        "the gated variant": r"\.gru\.",
        "the experimental variant": r"^data_proj\.",
        "the mixed-latents variant": r"^layers\.\d+\.\d+\.fn\.[03]\.",
        "PerceiverLM": r"^perceiver_io\.",
        "a model with attn_residual": r"attn_residuals\.",
    }
    for variant, mark in variants.items():
        if any(re.search(mark, name) for name in arrays):
            raise FileError(f"these weights are those of {variant}, which is not supported")
    if any(name.startswith("cross_attend_block.") for name in arrays):
        return "PerceiverIO"
    if any(name.startswith("layers.0.cross_attn.") for name in arrays):
        return "Perceiver"
    shown = ", ".join(list(arrays)[:3])
    raise FileError(
        "these are not the weights of lucidrains' Perceiver or PerceiverIO alone: names start "
        "neither with layers.0.cross_attn (before 0.11 layers.0.0) nor with cross_attend_block "
        f"(cross_attend_blocks). There are {shown}, ...: save the model's own state dict"
    )


def from_shapes(arrays: Arrays) -> dict[str, Any]:
    """Settings as far as names and shapes of a state dict tell them, the others `UNKNOWN`.

    - Products of head counts and head sizes are told, but not the counts: with other counts the
      same weights make another function.
    - Tied layers are told by equal values; dropout rates do not concern trained weights.

    Raises:
        FileError: a tensor of the class is missing.
    """
    name = class_of(arrays)
    try:
        told = _perceiver(arrays) if name == "Perceiver" else _perceiver_io(arrays)
        latents = arrays["latents"].shape
        sizes = {"num_latents": latents[0], "latent_dim": latents[1]}
    except (KeyError, IndexError) as error:
        raise FileError(
            f"a tensor of lucidrains' {name} is missing or has no axes: {error}"
        ) from None
    return {CLASS: name, "depth": _count(arrays, r"layers\.(\d+)\."), **sizes, **told}


def _perceiver(arrays: Arrays) -> dict[str, Any]:
    channels = len(arrays["layers.0.cross_attn.norm_context.weight"])
    bands = (
        f"{UNKNOWN} (input_channels + input_axis * (2 * num_freq_bands + 1) = {channels}, or "
        f"input_channels = {channels} with fourier_encode_data=False)"
    )
    see_bands = f"{UNKNOWN} (see num_freq_bands)"
    head = "to_logits.2.bias" in arrays
    return {
        "num_freq_bands": bands,
        "max_freq": UNKNOWN,
        "input_channels": see_bands,
        "input_axis": see_bands,
        "fourier_encode_data": see_bands,
        **_heads("cross", arrays["layers.0.cross_attn.fn.to_q.weight"]),
        **_heads("latent", arrays["layers.0.self_attns.0.0.fn.to_q.weight"]),
        "self_per_cross_attn": _count(arrays, r"layers\.0\.self_attns\.(\d+)\."),
        "weight_tie_layers": _tied(arrays, first=1),
        "final_classifier_head": head,
        **({"num_classes": len(arrays["to_logits.2.bias"])} if head else {}),
        "inverted_cross_attn": f"{UNKNOWN} (false, unless given)",
    }


def _perceiver_io(arrays: Arrays) -> dict[str, Any]:
    logits = arrays.get("to_logits.bias")
    return {
        "dim": len(arrays["cross_attend_block.cross_attn.norm_context.weight"]),
        "queries_dim": len(arrays["decoder_cross_attn.norm.weight"]),
        "logits_dim": None if logits is None else len(logits),
        **_heads("cross", arrays["cross_attend_block.cross_attn.fn.to_q.weight"]),
        **_heads("latent", arrays["layers.0.self_attns.0.0.fn.to_q.weight"]),
        "weight_tie_layers": _tied(arrays, first=0),
        "decoder_ff": "decoder_ff.norm.weight" in arrays,
        "inverted_cross_attn": f"{UNKNOWN} (false, unless given)",
    }


def _heads(kind: str, to_q: np.ndarray) -> dict[str, Any]:
    inner = len(to_q)
    by_default = f", by default {inner // 64} * 64" if inner % 64 == 0 else ""
    return {
        f"{kind}_heads": f"{UNKNOWN} ({kind}_heads * {kind}_dim_head = {inner}{by_default})",
        f"{kind}_dim_head": f"{UNKNOWN} (see {kind}_heads)",
    }


def _tied(arrays: Arrays, first: int) -> bool:
    """Whether there are several layers from the first on, and all hold the same values."""
    layers: dict[int, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        if match := re.match(r"layers\.(\d+)\.(.*)", name):
            layers.setdefault(int(match[1]), {})[match[2]] = array
    found = [layers[i] for i in sorted(layers) if i >= first]
    return len(found) > 1 and all(
        layer.keys() == found[0].keys()
        and all(np.array_equal(layer[name], found[0][name]) for name in layer)
        for layer in found[1:]
    )


def _count(arrays: Arrays, pattern: str) -> int:
    return len({match[1] for name in arrays if (match := re.match(pattern, name))})


def _class_of(arguments: Mapping[str, Any]) -> str:
    """The class whose arguments these are."""
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
            "beside the weights, under their name (model.pt: model.json); told by shapes: "
            f"{json.dumps(told)}"
        )
