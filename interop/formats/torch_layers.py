"""Rows of PyTorch's own layers."""

from interop.ops import TRANSPOSE
from interop.rows import Row, row


def linear(ours: str, theirs: str) -> list[Row]:
    """A `torch.nn.Linear`."""
    return [
        row(f"{ours}/kernel", f"{theirs}.weight", TRANSPOSE),
        row(f"{ours}/bias", f"{theirs}.bias"),
    ]


def norm(ours: str, theirs: str) -> list[Row]:
    """A `torch.nn.LayerNorm`."""
    return [row(f"{ours}/scale", f"{theirs}.weight"), row(f"{ours}/bias", f"{theirs}.bias")]
