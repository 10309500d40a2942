"""Hugging Face's resampler of Idefics2, which is no name of transformers' own and takes a mask."""

from pathlib import Path
from typing import Any

ARCHITECTURE = "Idefics2PerceiverResampler"


def load(path: Path) -> Any:
    """The model of a folder."""
    from transformers.models.idefics2 import modeling_idefics2

    return getattr(modeling_idefics2, ARCHITECTURE).from_pretrained(path)


def forward(model: Any, features: Any) -> Any:
    """[B, M, C] features, none of them padding → [B, N, C] tokens."""
    import torch

    return model(context=features, attention_mask=torch.ones(features.shape[:2]))
