"""Rows of PyTorch's own layers."""

from interop.ops import TRANSPOSE
from interop.rows import Row, row


def linear(ours: str, theirs: str, *, bias: bool = True) -> list[Row]:
    """A `torch.nn.Linear`, with or without a bias."""
    kernel = row(f"{ours}/kernel", f"{theirs}.weight", TRANSPOSE)
    return [kernel, row(f"{ours}/bias", f"{theirs}.bias")] if bias else [kernel]


def norm(ours: str, theirs: str) -> list[Row]:
    """A `torch.nn.LayerNorm`."""
    return [row(f"{ours}/scale", f"{theirs}.weight"), row(f"{ours}/bias", f"{theirs}.bias")]


def rms_norm(ours: str, theirs: str) -> list[Row]:
    """A norm with a scale alone, which libraries write themselves."""
    return [row(f"{ours}/scale", f"{theirs}.weight")]
