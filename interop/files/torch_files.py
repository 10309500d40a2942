"""PyTorch's files (`.bin`, `.pt`, `.pth`, `.ckpt`), Lightning's checkpoints among them.

- They are read by `torch.load(weights_only=True)`, which imports and calls nothing that a file
  names, after `torch_pickles` has checked all names and sizes.
- PyTorch gets a zip file's checked members, not the file: two readers of zip files need not agree
  on what is in one.
"""

import dataclasses
import io
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from interop.files import FileError, archives, checks, torch_pickles
from interop.files.pickles import PickleError
from interop.files.reader import BoundedReader
from perceiver_jax.errors import how_to_install

EXPECTED = "a PyTorch file of weights (.bin, .pt, .pth or .ckpt)"
REMEDY = (
    "download it again, or open it where it was made and save its weights alone: "
    "torch.save(model.state_dict(), FILE)"
)
WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Under which keys a state dict lies beside other things."""
CLASS = "__class__"
"""Key of a record that holds the qualified name of its class."""
MAX_DEPTH = 32
MAX_ENTRIES = 300_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchFile:
    """What a PyTorch file holds.

    Attributes:
        tensors: the state dict, as it is named in the file; views of shared storages stay views.
        rest: everything beside it, in plain containers. Tensors are arrays, and an instance of a
            config class is a dict of its fields with the name of its class under `CLASS`.
    """

    tensors: dict[str, np.ndarray]
    rest: dict[str, Any]


def read(path: str | os.PathLike[str]) -> TorchFile:
    """Reads a state dict, and what lies beside it.

    Args:
        path: of a file with a state dict at its top or under one of `WRAPPERS`.

    Returns:
        Both; bfloat16 has the dtype of ml_dtypes.

    Raises:
        FileError: missing, damaged, something in it is not allowed, sizes that disagree, no state
            dict, or NaN and infinite weights.
    """
    path = Path(path)
    size = checks.opened_size(path, EXPECTED)
    torch = _torch()
    try:
        content = _load(torch, _checked(path, size))
        plain = _Plain(torch).of(content, 0)
    except PickleError as error:
        raise FileError(f"{path} is not {EXPECTED}: {error}; {REMEDY}") from None
    tensors, rest = _state_dict(path, plain)
    checks.check_total(path, tensors, size)
    checks.check_arrays(path, tensors)
    return TorchFile(tensors=tensors, rest=rest)


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    rest: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> None:
    """Writes a state dict, in one step.

    Args:
        path: of the file.
        tensors: by name.
        rest: what lies beside the state dict, which is then under 'state_dict'; None: the file is
            the state dict.
        prefix: goes before every name.

    Raises:
        FileError: it cannot be written, or a dtype is none of PyTorch's.
    """
    path = Path(path)
    torch = _torch()
    named = {prefix + name: _tensor(torch, path, name, array) for name, array in tensors.items()}
    with checks.replaced(path) as temporary, temporary.open("wb") as file:
        torch.save(named if rest is None else {"state_dict": named, **rest}, file)


def _checked(path: Path, size: int) -> Path | io.BytesIO:
    """What PyTorch shall read: the file itself or an archive of its checked members.

    Raises:
        FileError: damaged.
        PickleError: something in its pickle is not allowed.
    """
    with BoundedReader(path) as file:
        if file.read(4) != b"PK\3\4":
            file.seek(0)
            torch_pickles.check_legacy(file)
            return path
    # PyTorch stores without compression.
    with archives.opened(path, EXPECTED, ratio=1) as archive:
        roots = [name[: -len("data.pkl")] for name in archive.sizes if name.endswith("/data.pkl")]
        if len(roots) != 1 or f"{roots[0]}constants.pkl" in archive.sizes:
            raise PickleError("it has no pickle 'data.pkl', or is a TorchScript program")
        root = roots[0]
        pickled = archive.read(f"{root}data.pkl")
        storages = torch_pickles.check(BoundedReader(pickled), size)
        checked = io.BytesIO()
        with zipfile.ZipFile(checked, "w", zipfile.ZIP_STORED) as members:
            members.writestr("archive/data.pkl", pickled)
            members.writestr("archive/version", b"3\n")
            order = f"{root}byteorder"
            if order in archive.sizes:
                members.writestr("archive/byteorder", archive.read(order))
            for key, storage in storages.items():
                name = f"{root}data/{key}"
                if archive.sizes.get(name) != storage.nbytes:
                    raise PickleError(
                        f"storage {key!r} declares {storage.nbytes} bytes and has "
                        f"{archive.sizes.get(name, 0)}"
                    )
                members.writestr(f"archive/data/{key}", archive.read(name))
        checked.seek(0)
        return checked


def _load(torch: ModuleType, source: Path | io.BytesIO) -> Any:
    records = [_class(name, _empty) for name in torch_pickles.RECORDS]
    # PyTorch fills exact dicts only.
    dicts = [_class(name, lambda cls, *_: {}) for name in torch_pickles.DICTS]
    enums = [_class(name, lambda cls, value: value) for name in torch_pickles.ENUMS]

    def member_by_name(of: Any, name: str) -> str:
        if of not in enums:
            raise PickleError("an attribute of something that is no enumeration")
        return name

    named = (member_by_name, "builtins.getattr")
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([*records, *dicts, *enums, named]),
        ):
            # It warns of pickle protocols other than 2.
            warnings.simplefilter("ignore")
            return torch.load(source, weights_only=True, map_location="cpu")
    except Exception as error:
        # The reader has no error of its own: broken bytes end in whatever they lead to.
        # Its message begins with the advice to do without `weights_only`.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip()
        first = (reason.splitlines() or [""])[0]
        raise PickleError(f"PyTorch cannot read it ({type(error).__name__}: {first})") from None


class _Record:
    """An instance of a class that the file names, as nothing but its fields."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.fields = dict(state)


def _empty(cls: type, *_: Any) -> _Record:
    made = object.__new__(cls)
    _Record.__init__(made)
    return made


def _class(name: str, new: Callable[..., Any]) -> type:
    """A class of that name, fresh for each file.

    Args:
        name: as in the file, with dots.
        new: makes an instance, or what stands for one, from the class and the file's arguments.
    """
    module, _, own = name.rpartition(".")
    return type(own, (_Record,), {"__module__": module, "__new__": new})


class _Plain:
    """Turns what PyTorch read into plain containers and arrays."""

    def __init__(self, torch: ModuleType):
        self.torch = torch
        self.visits = 0

    def of(self, value: Any, depth: int) -> Any:
        self.visits += 1
        # A few bytes can make lists that hold one another, or themselves.
        if depth > MAX_DEPTH or self.visits > MAX_ENTRIES:
            raise PickleError(
                f"more than {MAX_ENTRIES} entries, or containers more than {MAX_DEPTH} deep"
            )
        if isinstance(value, self.torch.Tensor):
            return self.array(value)
        if isinstance(value, _Record):
            name = f"{type(value).__module__}.{type(value).__name__}"
            return {CLASS: name, **self.of(value.fields, depth + 1)}
        if isinstance(value, dict):
            return {key: self.of(part, depth + 1) for key, part in dict.items(value)}
        if isinstance(value, (list, tuple)):
            parts = [self.of(part, depth + 1) for part in value]
            return parts if isinstance(value, list) else tuple(parts)
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if isinstance(value, (self.torch.dtype, self.torch.device)):
            return str(value)
        raise PickleError(f"{type(value).__name__}, expected tensors and plain values")

    def array(self, tensor: Any) -> np.ndarray:
        tensor = tensor.detach()
        if tensor.layout is not self.torch.strided or tensor.is_quantized:
            raise PickleError("a sparse or quantized tensor, expected dense ones")
        if tensor.dtype is self.torch.bfloat16:
            return tensor.view(self.torch.int16).numpy().view(ml_dtypes.bfloat16)
        try:
            return tensor.resolve_conj().resolve_neg().numpy()
        except TypeError as error:
            raise PickleError(f"a tensor of {tensor.dtype} ({error})") from None


def _state_dict(path: Path, content: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state dict in a file's content, and what lies beside it."""
    if not isinstance(content, dict):
        raise FileError(f"{path} holds {type(content).__name__}, expected a state dict; {REMEDY}")
    for key in (None, *WRAPPERS):
        part = content if key is None else content.get(key)
        if isinstance(part, dict) and part and all(map(_named_array, part.items())):
            return part, {} if key is None else {k: v for k, v in content.items() if k != key}
    raise FileError(
        f"{path} holds {sorted(map(str, content))[: checks.SHOWN]}, expected a state dict (names "
        f"and tensors) at its top or under one of {', '.join(WRAPPERS)}; {REMEDY}"
    )


def _named_array(item: tuple[Any, Any]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, np.ndarray)


def _tensor(torch: ModuleType, path: Path, name: str, array: np.ndarray) -> Any:
    array = np.asarray(array)
    try:
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(_own(array.view(np.int16))).view(torch.bfloat16)
        return torch.from_numpy(_own(array))
    except TypeError as error:
        raise FileError(
            f"cannot write {path}: '{name}' is of {array.dtype} ({error}); convert it to float32"
        ) from None


def _own(array: np.ndarray) -> np.ndarray:
    """In the machine's byte order, contiguous, and PyTorch's to write to."""
    return np.require(array, array.dtype.newbyteorder("="), ["C", "W"])


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError:
        raise FileError(
            "PyTorch's files need the package torch, which is not installed; "
            f"{how_to_install('torch')}"
        ) from None
    return torch
