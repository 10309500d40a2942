"""lucidrains/perceiver-pytorch (PyTorch): `Perceiver` and `PerceiverIO`."""

from interop.formats.lucidrains.expressible import WHOSE, requirements
from interop.formats.lucidrains.files import read, write
from interop.formats.lucidrains.table import config, rows, settings

__all__ = ["WHOSE", "config", "read", "requirements", "rows", "settings", "write"]
