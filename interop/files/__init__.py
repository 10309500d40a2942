"""Weight files of other implementations, read and written without trusting what is in them.

- Every reader returns NumPy arrays by name; nothing that a file names is imported or run.
- A reader checks the sizes that a file declares before it allocates: memory stays within a small
  multiple of the file's size.
- Whatever is wrong with a file ends in a `FileError`.
"""

from perceiver_jax.errors import UserError


class FileError(UserError):
    """A file cannot be read or written; the message names it, what was expected, the remedy."""
