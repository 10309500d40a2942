"""Haiku's pickles (`.pystate`, `.pickle`), which hold DeepMind's released weights.

Names that a file may mention stand here; what they stand for is ours, see `interop.files.pickles`.
The list and the layouts of the files: the dm-haiku and jax releases of the time, and the notebooks
of deepmind-research/perceiver.
"""

import math
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from interop.files import FileError, checks, pickles
from interop.files.pickles import Built, Global, PickleError
from interop.files.reader import BoundedReader

EXPECTED = "a pickle of Haiku's parameters (.pystate or .pickle)"
DTYPE = re.compile(r"[<>=|]?(b1|\?|[iu][1248]|f[248]|c8|c16)")
MAX_DIMENSIONS = 32
MAX_DEPTH = 8
"""Haiku has two levels, modules and names; one more for params and state."""
MAX_ENTRIES = 100_000
MAX_NAME = 1_000
PARTS = ("params", "state")


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a released file, without importing or calling anything that it names.

    Args:
        path: of a pickle of {'params': modules, 'state': modules}, or of modules alone.

    Returns:
        Arrays by 'params/MODULE/NAME' and 'state/MODULE/NAME', in the dtypes of the file.

    Raises:
        FileError: missing, damaged, something in it is not allowed, sizes that disagree, or NaN and
            infinite values.
    """
    path = Path(path)
    size = checks.opened_size(path, EXPECTED)
    with BoundedReader(path) as file:
        try:
            content = pickles.load(file, _allowed(size))
            if not isinstance(content, dict):
                raise PickleError(f"it holds {type(content).__name__}, no mapping of modules")
            if "params" not in content:
                content = {"params": content}
            elif set(content) - set(PARTS):
                odd = sorted(map(str, set(content) - set(PARTS)))
                raise PickleError(f"beside 'params' and 'state' it holds {odd}")
            views = _flatten(content)
        except PickleError as error:
            raise FileError(f"{path} is not {EXPECTED}: {error}; {checks.REMEDY}") from None
    checks.check_total(path, views, size)
    # The views lie in the read-only bytes of the file; theirs may be another byte order.
    arrays = {
        name: np.array(view, view.dtype.newbyteorder("="), order="C")
        for name, view in views.items()
    }
    checks.check_arrays(path, arrays)
    return arrays


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], *, bare: bool = False
) -> None:
    """Writes the layout of the released files, in one step.

    Plain dicts of NumPy arrays, {'params': {MODULE: {NAME: array}}, 'state': ...}, in pickle
    protocol 3. NumPy is named as `numpy.core`, which its releases before and since 2.0 both read.

    Args:
        path: of the file.
        arrays: by 'params/MODULE/NAME' and 'state/MODULE/NAME'; modules have slashes of their own.
        bare: whether the file holds the modules of 'params' alone, as that of the language model
            does and those of the image classifiers do not.

    Raises:
        FileError: a name of another form, a dtype that is no number, or it cannot be written.
    """
    path = Path(path)
    parts = PARTS[:1] if bare else PARTS
    tree: dict[str, dict[str, dict[str, np.ndarray]]] = {part: {} for part in parts}
    for full, value in arrays.items():
        part, _, rest = full.partition("/")
        module, _, name = rest.rpartition("/")
        array = np.asarray(value)
        if part not in parts or not module or not name:
            expected = " or ".join(f"{part}/MODULE/NAME" for part in parts)
            raise FileError(
                f"cannot write {path}: '{full}' is no Haiku name here; expected {expected}"
            )
        if not DTYPE.fullmatch(array.dtype.str):
            raise FileError(
                f"cannot write {path}: '{full}' is of {array.dtype}, which not every NumPy reads; "
                "convert it to float32"
            )
        tree[part].setdefault(module, {})[name] = array
    with checks.replaced(path) as temporary, temporary.open("wb") as file:
        file.write(b"\x80\x03")
        _write_dict(file, tree["params"] if bare else tree)
        file.write(b".")


class _Dtype(Built):
    """Stands for a numpy.dtype."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        if isinstance(code, Global) and code.name == "ml_dtypes.bfloat16":
            self.dtype = np.dtype(ml_dtypes.bfloat16)
        elif isinstance(code, str) and DTYPE.fullmatch(code):
            self.dtype = np.dtype(code)
        else:
            told = pickles.shown(code.name if isinstance(code, Global) else code)
            raise PickleError(f"an array of dtype {told}, expected numbers")

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(state[2:5]):
            raise PickleError("a dtype with fields, expected numbers")
        if state[1] not in ("<", ">", "|", "="):
            raise PickleError(f"byte order {pickles.shown(state[1])}")
        if state[1] != "|":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(Built):
    """Stands for a numpy.ndarray: empty at first, as NumPy's own pickles make it."""

    __slots__ = ("array",)

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None

    def build(self, state: Any) -> None:
        if self.array is not None:
            raise PickleError("an array whose content is given twice")
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleError("an array whose content is not (version, shape, dtype, order, bytes)")
        _, shape, dtype, columns_first, content = state
        self.array = _filled(shape, dtype, content, "F" if columns_first else "C")


def _filled(shape: Any, dtype: Any, content: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise PickleError("an array without a dtype")
    if not isinstance(content, bytes):
        raise PickleError(f"an array made of {type(content).__name__}, expected bytes")
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS or order not in ("C", "F"):
        raise PickleError("an array with a damaged shape or order")
    if any(type(n) is not int or not 0 <= n <= len(content) for n in shape):
        # Nothing has more entries along an axis than bytes, but for arrays without entries.
        if not (0 in shape and not content):
            raise PickleError(f"an array that declares more than its {len(content)} bytes")
        if any(type(n) is not int or not 0 <= n < 1 << 31 for n in shape):
            raise PickleError("an array with a damaged shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(content):
        raise PickleError(
            f"an array of shape {list(shape)} and {dtype.dtype} in {len(content)} bytes"
        )
    return np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


def _ready(array: np.ndarray) -> _Array:
    made = _Array()
    made.array = array
    return made


def _allowed(size: int) -> dict[str, Global]:
    """Stand-ins for the names that a file may mention; fresh ones, so that no file can alter them.

    Args:
        size: of the file in bytes.
    """

    def of_jax(function: Any, arguments: Any, state: Any, aval: Any = None, *_: Any) -> _Array:
        array = _Array()
        array.build(state)
        return array

    def of_scalar(dtype: Any, content: Any = b"") -> _Array:
        return _ready(_filled((), dtype, content))

    def of_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        return _ready(_filled(shape, dtype, content, order))

    def mapping(content: Any = None) -> dict:
        if content is not None and not isinstance(content, dict):
            raise PickleError(f"a Haiku mapping made of {type(content).__name__}")
        return {} if content is None else content

    def no_bytes(*arguments: Any) -> bytes:
        if arguments:
            raise PickleError("a call of bytes with arguments")
        return b""

    calls = {
        "numpy.ndarray": None,
        "numpy.dtype": _Dtype,
        "ml_dtypes.bfloat16": None,
        "collections.OrderedDict": pickles.Ordered,
        "jax._src.array._reconstruct_array": of_jax,
        "jax._src.device_array.reconstruct_device_array": of_jax,
    }
    for core in ("numpy.core", "numpy._core"):
        calls[f"{core}.multiarray._reconstruct"] = _Array
        calls[f"{core}.multiarray.scalar"] = of_scalar
        calls[f"{core}.numeric._frombuffer"] = of_buffer
    for name in ("FlatMapping", "FlatMap", "frozendict"):
        calls[f"haiku._src.data_structures.{name}"] = mapping
    for module in ("builtins", "__builtin__"):
        # Old protocols write no bytes at all as a call of the class.
        calls[f"{module}.bytes"] = no_bytes
    allowed = {name: Global(name, call) for name, call in calls.items()}
    # Old protocols write bytes as text: no more of it than the file holds.
    allowed["_codecs.encode"] = pickles.encoder(size)
    return allowed


def _flatten(content: dict) -> dict[str, np.ndarray]:
    """The arrays of nested mappings by their joined names."""
    arrays = {}
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    visits = 0
    while waiting:
        name, value, depth = waiting.pop()
        visits += 1
        # Counted here and not by arrays: mappings that hold one another can do without any.
        if visits > MAX_ENTRIES or depth > MAX_DEPTH:
            raise PickleError(
                f"more than {MAX_ENTRIES} entries, or mappings more than {MAX_DEPTH} deep"
            )
        if isinstance(value, dict):
            for key, part in reversed(value.items()):
                if not isinstance(key, str) or not key:
                    raise PickleError(f"in {name!r} stands the name {key!r}, expected text")
                inner = f"{name}/{key}" if name else key
                if len(inner) > MAX_NAME:
                    raise PickleError(f"a name of {len(inner)} characters, at most {MAX_NAME}")
                waiting.append((inner, part, depth + 1))
        elif not isinstance(value, _Array) or value.array is None:
            kind = "an array without content" if isinstance(value, _Array) else type(value).__name__
            raise PickleError(f"{name!r} is {kind}, expected an array or a mapping")
        elif name in arrays:
            raise PickleError(f"two arrays are called {name!r}")
        else:
            arrays[name] = value.array
    return arrays


# Opcodes by hand: pickle itself writes the names that the installed NumPy goes by.


def _write_dict(file: BinaryIO, values: Mapping[str, Any]) -> None:
    file.write(b"}(")
    for name, value in values.items():
        _write_text(file, name)
        if isinstance(value, dict):
            _write_dict(file, value)
        else:
            _write_array(file, value)
    file.write(b"u")


def _write_text(file: BinaryIO, text: str) -> None:
    encoded = text.encode()
    file.write(b"X" + struct.pack("<I", len(encoded)) + encoded)


def _write_array(file: BinaryIO, array: np.ndarray) -> None:
    file.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\1btR(K\1(")
    for length in array.shape:
        file.write(b"\x8a\x08" + struct.pack("<q", length))
    file.write(b"tcnumpy\ndtype\n(")
    _write_text(file, array.dtype.str[1:])
    file.write(b"\x89\x88tR(K\3")
    _write_text(file, "|" if array.dtype.itemsize == 1 else "<")
    file.write(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89")
    content = np.asarray(array, array.dtype.newbyteorder("<"), order="C").tobytes()
    if len(content) >= 1 << 32:
        raise FileError(f"an array of {len(content)} bytes does not fit pickle protocol 3")
    file.write(b"B" + struct.pack("<I", len(content)) + content + b"tb")
