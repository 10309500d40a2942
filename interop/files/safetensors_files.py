"""Safetensors files, whole or in shards with an index."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from interop.files import FileError, checks

EXPECTED = "a safetensors file"
EXPECTED_INDEX = 'an index of safetensors files: {"weight_map": {TENSOR: FILE}}'
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read(path: str | os.PathLike[str], below: str = "") -> dict[str, np.ndarray]:
    """Reads the tensors of a file, of the shards of an index, or of a folder with either.

    Args:
        path: `NAME.safetensors`, `NAME.safetensors.index.json`, or a folder that holds
            `model.safetensors` or `model.safetensors.index.json`.
        below: prefix of the names to read; others are left where they are, and so are shards that
            have none of these.

    Returns:
        Arrays by name; bfloat16 and float8 with the dtypes of ml_dtypes.

    Raises:
        FileError: see the message.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in (WHOLE, INDEX) if (path / name).exists()]
        if not found:
            raise FileError(f"folder {path} holds neither {WHOLE} nor {INDEX}; name the file")
        path = found[0]
    arrays = (_shards if path.suffix == ".json" else _one)(path, below)
    checks.check_arrays(path, arrays)
    return arrays


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes one file, in one step.

    Args:
        path: of the file.
        arrays: by name.
        metadata: texts for the file's header.

    Raises:
        FileError: it cannot be written, or a dtype is none of safetensors'.
    """
    # `np.ascontiguousarray` would make vectors of scalars.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with checks.replaced(Path(path)) as temporary:
        try:
            save_file(contiguous, temporary, dict(metadata or {}))
        except (SafetensorError, KeyError, ValueError) as error:
            raise FileError(f"cannot write {path} as safetensors: {error}") from None


def _one(path: Path, below: str) -> dict[str, np.ndarray]:
    checks.opened_size(path, EXPECTED)
    try:
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if name.startswith(below)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{path} is not {EXPECTED}, or is damaged ({error}); {checks.REMEDY}"
        ) from None


def _shards(index: Path, below: str) -> dict[str, np.ndarray]:
    """The tensors that an index lists.

    Args:
        index: `{"weight_map": {TENSOR: FILE}}`, the files beside it.
        below: prefix of their names.
    """
    checks.opened_size(index, EXPECTED_INDEX)
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        files = {
            name: _shard(index, file) for name, file in weight_map.items() if name.startswith(below)
        }
    except FileError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileError(f"{index} is not {EXPECTED_INDEX} ({error}); {checks.REMEDY}") from None
    arrays: dict[str, np.ndarray] = {}
    for shard in sorted(set(files.values())):
        for name, array in _one(shard, below).items():
            if files.get(name) != shard:
                listed = files[name].name if name in files else "nowhere"
                raise FileError(
                    f"{index}: '{name}' lies in {shard.name}, and the index lists it in {listed}; "
                    f"{checks.REMEDY}"
                )
            arrays[name] = array
    missing = sorted(set(files) - set(arrays))
    if missing:
        raise FileError(
            f"{index} lists '{missing[0]}' in {files[missing[0]].name}, which has no such tensor "
            f"({len(missing)} are missing); {checks.REMEDY}"
        )
    return arrays


def _shard(index: Path, name: str) -> Path:
    """Path of a shard.

    Raises:
        FileError: it would lie elsewhere than beside the index.
    """
    # On every system: a path of another one is no file name either.
    inside = not set(name) & set("/\\:\0") and name not in ("", ".", "..") and len(name) < 256
    shard = index.parent / name
    # In the hub's cache all files are links to its blobs.
    cached = inside and shard.is_symlink() and index.is_symlink()
    home = index.resolve().parent if cached else index.parent.resolve()
    if not inside or shard.resolve().parent != home:
        raise FileError(
            f"{index} names the shard {name[:256]!r}, expected the name of a file beside the "
            "index; get the files from a source that you trust"
        )
    return shard
