"""Where a model's files lie: here, or in Hugging Face's hub and its cache on this machine."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from interop.files import FileError
from perceiver_jax.errors import how_to_install

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""owner/name"""


def locate(source: str, file_names: Sequence[str]) -> Path:
    """The local file or folder of a model.

    Args:
        source: a path, or a hub id as 'owner/name'. What exists here is never looked up there.
        file_names: what to get of a hub model, as names or patterns with `*`.

    Returns:
        The path, or the folder of the hub's cache. With HF_HUB_OFFLINE=1, and where there is no
        network, the cache alone decides.

    Raises:
        FileError: no such file and no such model, or the hub cannot be asked.
    """
    # Path.exists would raise an error for a name that is too long.
    if os.path.exists(source):
        return Path(source)
    if not HUB_ID.fullmatch(source):
        raise FileError(
            f"no such file or folder: {source}; expected a path that exists, or the id of a model "
            "of Hugging Face's hub as 'owner/name'"
        )
    try:
        import huggingface_hub
    except ImportError:
        raise FileError(
            f"no such file or folder: {source}; to read it as the id of a model of Hugging Face's "
            f"hub, {how_to_install('hub')}"
        ) from None
    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=list(file_names)))
    except Exception as error:
        # Errors of the hub, of its HTTP client and of the disk have no common base.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileError(
            f"no such file or folder: {source}; as the id of a model of Hugging Face's hub it is "
            f"not in this machine's cache, and cannot be downloaded ({first}). Check the id and "
            "the network, or name a local folder"
        ) from None
