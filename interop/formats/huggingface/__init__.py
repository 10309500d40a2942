"""Hugging Face transformers (PyTorch): its three Perceiver image classifiers."""

from interop.formats.huggingface.image_classifier import (
    WHOSE,
    config,
    read,
    requirements,
    rows,
    settings,
    write,
)

__all__ = ["WHOSE", "config", "read", "requirements", "rows", "settings", "write"]
