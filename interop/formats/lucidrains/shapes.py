"""What names and shapes of a state dict tell of lucidrains' class and its arguments."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.files import FileError
from interop.formats.lucidrains.arguments import CLASS, UNKNOWN

INNER = "perceiver_io."
"""What names of a `PerceiverLM` start with, but for its embeddings."""
FREQUENCIES = "rotary_pos_emb.inv_freq"
"""Frequencies of rotary positions, which a `PerceiverAR` alone has."""

Arrays = Mapping[str, np.ndarray]


def class_of(arrays: Arrays) -> str:
    """The class that a state dict with names of 0.11 belongs to.

    Raises:
        FileError: it is none of them, or an unsupported one.
    """
    variants = {
        "the gated variant": r"\.gru\.",
        "the experimental variant": r"^data_proj\.",
        "the mixed-latents variant": r"^layers\.\d+\.\d+\.fn\.[03]\.",
        "a model with attn_residual": r"attn_residuals\.",
    }
    for variant, mark in variants.items():
        if any(re.search(mark, name) for name in arrays):
            raise FileError(f"these weights are those of {variant}, which is not supported")
    if FREQUENCIES in arrays:
        return "PerceiverAR"
    if any(name.startswith(f"{INNER}cross_attend_block.") for name in arrays):
        return "PerceiverLM"
    if any(name.startswith("cross_attend_block.") for name in arrays):
        return "PerceiverIO"
    if any(name.startswith("layers.0.cross_attn.") for name in arrays):
        return "Perceiver"
    shown = ", ".join(list(arrays)[:3])
    raise FileError(
        "these are not the weights of lucidrains' Perceiver, PerceiverIO, PerceiverLM or "
        "PerceiverAR alone: names start neither with layers.0.cross_attn (before 0.11 layers.0.0) "
        f"nor with cross_attend_block (cross_attend_blocks), below {INNER} or not, and none is "
        f"{FREQUENCIES}. There are {shown}, ...: save the model's own state dict"
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
    tell = {
        "Perceiver": _perceiver,
        "PerceiverIO": _perceiver_io,
        "PerceiverLM": _perceiver_lm,
        "PerceiverAR": _perceiver_ar,
    }
    inner = {name.removeprefix(INNER): array for name, array in arrays.items()}
    try:
        told = tell[name](inner)
    except (KeyError, IndexError) as error:
        raise FileError(
            f"a tensor of lucidrains' {name} is missing or has no axes: {error}"
        ) from None
    return {CLASS: name, "depth": _count(inner, r"layers\.(\d+)\."), **told}


def _perceiver(arrays: Arrays) -> dict[str, Any]:
    channels = len(arrays["layers.0.cross_attn.norm_context.weight"])
    bands = (
        f"{UNKNOWN} (input_channels + input_axis * (2 * num_freq_bands + 1) = {channels}, or "
        f"input_channels = {channels} with fourier_encode_data=False)"
    )
    see_bands = f"{UNKNOWN} (see num_freq_bands)"
    head = "to_logits.2.bias" in arrays
    return {
        **_latents(arrays),
        "num_freq_bands": bands,
        "max_freq": UNKNOWN,
        "input_channels": see_bands,
        "input_axis": see_bands,
        "fourier_encode_data": see_bands,
        **_heads("cross_", arrays["layers.0.cross_attn.fn.to_q.weight"]),
        **_heads("latent_", arrays["layers.0.self_attns.0.0.fn.to_q.weight"]),
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
        **_sequence(arrays),
    }


def _perceiver_lm(arrays: Arrays) -> dict[str, Any]:
    embedding = arrays["token_emb.weight"].shape
    return {
        "dim": embedding[1],
        "num_tokens": embedding[0],
        "max_seq_len": arrays["pos_emb.weight"].shape[0],
        **_sequence(arrays),
    }


def _sequence(arrays: Arrays) -> dict[str, Any]:
    """What a `PerceiverIO` has besides the channels of inputs, queries and outputs."""
    return {
        **_latents(arrays),
        **_heads("cross_", arrays["cross_attend_block.cross_attn.fn.to_q.weight"]),
        **_heads("latent_", arrays["layers.0.self_attns.0.0.fn.to_q.weight"]),
        "weight_tie_layers": _tied(arrays, first=0),
        "decoder_ff": "decoder_ff.norm.weight" in arrays,
        "inverted_cross_attn": f"{UNKNOWN} (false, unless given)",
    }


def _perceiver_ar(arrays: Arrays) -> dict[str, Any]:
    embedding = arrays["token_emb.weight"].shape
    return {
        "num_tokens": embedding[0],
        "dim": embedding[1],
        "max_seq_len": arrays["pos_emb.weight"].shape[0],
        "cross_attn_seq_len": f"{UNKNOWN} (tokens of the prefix)",
        **_heads("", arrays["layers.0.0.to_out.weight"].T),
        "ff_mult": arrays["layers.0.1.1.weight"].shape[0] // embedding[1],
        "perceive_depth": _count(arrays, r"perceive_layers\.(\d+)\."),
    }


def _latents(arrays: Arrays) -> dict[str, Any]:
    latents = arrays["latents"].shape
    return {"num_latents": latents[0], "latent_dim": latents[1]}


def _heads(kind: str, to_q: np.ndarray) -> dict[str, Any]:
    inner = len(to_q)
    by_default = f", by default {inner // 64} * 64" if inner % 64 == 0 else ""
    return {
        f"{kind}heads": f"{UNKNOWN} ({kind}heads * {kind}dim_head = {inner}{by_default})",
        f"{kind}dim_head": f"{UNKNOWN} (see {kind}heads)",
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
