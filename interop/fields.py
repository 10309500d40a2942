"""The fields of a config, whatever it is made of, under their paths."""

from typing import Any

from perceiver_jax.config import to_dict
from perceiver_jax.models import AnyModelConfig


def by_path(config: AnyModelConfig) -> dict[str, Any]:
    """Values of all fields, as in {"encoder.dropout": 0.1}; tuples are lists."""
    return dict(_walk(to_dict(config), ""))


def by_name(config: AnyModelConfig) -> dict[str, Any]:
    """The same by the last part of each path; where halves share a name, the later's."""
    return {path.rpartition(".")[2]: value for path, value in by_path(config).items()}


def _walk(tree: dict[str, Any], prefix: str):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
