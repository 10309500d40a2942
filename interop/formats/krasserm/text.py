"""How a text becomes the input of krasserm's language models, as far as files tell."""

from collections.abc import Mapping
from typing import Any

from perceiver_jax.card import TextPreprocessing

BYTES = "deepmind/language-perceiver"
"""The name of the tokenizer of UTF-8 bytes in settings of data modules."""
BYTES_TOO = (BYTES, "krasserm/perceiver-io-mlm")
NUM_BYTES = 262
"""Bytes and special tokens."""
NUM_EVENTS = 389
"""Events of symbolic music, and padding."""


def usual_text(settings: Mapping[str, Any] | None) -> TextPreprocessing | None:
    """Bytes for models of that vocabulary, as their own were trained, see `stand_between`.

    Args:
        settings: the model's, as a nested dict of its dataclasses; None: not known.
    """
    inputs = (settings or {}).get("encoder", settings)
    if not isinstance(inputs, Mapping) or inputs.get("vocab_size") != NUM_BYTES:
        return None
    return TextPreprocessing(tokenizer="bytes", add_special_tokens=stand_between(settings))


def stand_between(settings: Mapping[str, Any] | None) -> bool:
    """Whether texts stand between [CLS] and [SEP]: not those that a causal model goes on with."""
    return "encoder" in (settings or {})


def is_music(settings: Mapping[str, Any], text: TextPreprocessing | None) -> bool:
    """Whether a causal model is one of music: it has that vocabulary, and takes no texts."""
    return text is None and settings.get("vocab_size") == NUM_EVENTS


def text_of_data(hyperparameters: Mapping[str, Any]) -> TextPreprocessing | None:
    """What the data module told of which a Lightning checkpoint keeps the hyper-parameters.

    None where its tokenizer is another than that of bytes: the checkpoint names it and has it not.
    """
    if hyperparameters.get("tokenizer") not in BYTES_TOO:
        return None
    special = hyperparameters.get("add_special_tokens") is True
    return TextPreprocessing(tokenizer="bytes", add_special_tokens=special)


def data_of_text(text: TextPreprocessing | None) -> dict[str, Any] | None:
    """The inverse of `text_of_data`; None where there is nothing to tell."""
    if text is None or text.tokenizer != "bytes":
        return None
    return {"tokenizer": BYTES, "add_special_tokens": text.add_special_tokens}
