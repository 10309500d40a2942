"""Perceiver, Perceiver IO and Perceiver AR in JAX/Flax.

- Importing this package is light: models, adapters and training load where they are named.
"""

import importlib
import typing

PARTS = ("adapters", "core", "generate", "models", "params", "pipelines", "pretrained")
"""Parts that `perceiver_jax.NAME` loads when it is first asked for."""

if typing.TYPE_CHECKING:
    from perceiver_jax.pretrained import load_checkpoint

__version__ = "0.1.0"
__all__ = ["__version__", "load_checkpoint"]


def __getattr__(name: str) -> typing.Any:
    if name == "load_checkpoint":
        from perceiver_jax.pretrained import load_checkpoint

        return load_checkpoint
    if name in PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *PARTS])
