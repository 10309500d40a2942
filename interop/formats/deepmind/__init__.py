"""DeepMind's Perceiver IO (Haiku): the three ImageNet models."""

from interop.formats.deepmind.arguments import PUBLISHED, WHOSE, config, settings
from interop.formats.deepmind.files import published, read, write
from interop.formats.deepmind.table import requirements, rows

__all__ = [
    "PUBLISHED",
    "WHOSE",
    "config",
    "published",
    "read",
    "requirements",
    "rows",
    "settings",
    "write",
]
