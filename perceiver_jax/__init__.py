"""Perceiver, Perceiver IO and Perceiver AR in JAX/Flax.

- Importing this package is light: models, adapters and training load where they are named.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceiver_jax.pretrained import load_checkpoint

__version__ = "0.1.0"
__all__ = ["__version__", "load_checkpoint"]


def __getattr__(name: str) -> Any:
    if name == "load_checkpoint":
        from perceiver_jax.pretrained import load_checkpoint

        return load_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
