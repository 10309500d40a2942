"""Weights to and from other implementations, by tables of rows that read in both directions.

- `load_pretrained(format, source)` gives a model of ours, `export_pretrained` writes one in another
  format; `python -m interop` does both, prints the tables and checks against the originals.
- A format is one module in `formats/`; arrays are NumPy's on both sides of its table.
- This package imports `perceiver_jax`, never the other way round, and no format imports torch.
"""

from interop.exporting import Exported, convert, export_pretrained, export_weights
from interop.formats import FORMATS
from interop.importing import import_weights, load_pretrained
from interop.rows import MappingError, load, save

__all__ = [
    "FORMATS",
    "Exported",
    "MappingError",
    "convert",
    "export_pretrained",
    "export_weights",
    "import_weights",
    "load",
    "load_pretrained",
    "save",
]
