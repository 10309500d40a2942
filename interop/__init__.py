"""Weights to and from other implementations, by tables of rows that read in both directions.

- A format is a module with `config(meta)`, which translates a foreign model's settings, and
  `rows(config)`, which lists every foreign tensor beside ours.
- `rows.load` and `rows.save` walk such a list; arrays are NumPy's on both sides.
- This package imports `perceiver_jax`, never the other way round, and no format imports torch.
"""

from interop.formats import deepmind_haiku, krasserm
from interop.rows import MappingError, load, save

__all__ = ["FORMATS", "MappingError", "load", "save"]

FORMATS = {
    "deepmind": deepmind_haiku,
    "krasserm": krasserm,
}
"""Format modules by the name that users give them."""
