"""What the pickle in a PyTorch file may name: checked here before PyTorch reads the file.

PyTorch's own `weights_only` reader takes sizes as the file declares them, and refuses the config
classes in Lightning's checkpoints. Here the pickle is walked with stand-ins first: every storage
has its declared size, every tensor lies within its storage, and every name is on the list.
"""

import math
from collections.abc import Callable
from typing import Any

from interop.files import pickles
from interop.files.pickles import Built, Global, PickleError
from interop.files.reader import BoundedReader

ITEM_SIZES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
}
"""Bytes per element of PyTorch's typed storages."""
DTYPES = {
    **{f"uint{8 * size}": size for size in (1, 2, 4, 8)},
    **{f"int{8 * size}": size for size in (1, 2, 4, 8)},
    **{f"float{8 * size}": size for size in (2, 4, 8)},
    "bfloat16": 2,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}
RECORDS = (
    # The config dataclasses of perceiver-io 0.11.
    "perceiver.model.core.config.EncoderConfig",
    "perceiver.model.core.config.DecoderConfig",
    "perceiver.model.core.config.ClassificationDecoderConfig",
    "perceiver.model.core.config.PerceiverIOConfig",
    "perceiver.model.core.config.PerceiverARConfig",
    "perceiver.model.core.config.CausalSequenceModelConfig",
    "perceiver.model.vision.image_classifier.backend.ImageEncoderConfig",
    "perceiver.model.vision.optical_flow.backend.OpticalFlowEncoderConfig",
    "perceiver.model.vision.optical_flow.backend.OpticalFlowDecoderConfig",
    "perceiver.model.text.common.backend.TextEncoderConfig",
    "perceiver.model.text.mlm.backend.TextDecoderConfig",
    "perceiver.model.text.clm.backend.CausalLanguageModelConfig",
    "perceiver.model.audio.symbolic.backend.SymbolicAudioModelConfig",
    # Where they were until 0.8, in checkpoints that 0.11 still loads.
    "perceiver.model.vision.image_classifier.ImageEncoderConfig",
    "perceiver.model.text.common.TextEncoderConfig",
    "perceiver.model.text.mlm.TextDecoderConfig",
    # What command lines leave in hyper-parameters.
    "argparse.Namespace",
    "jsonargparse.namespace.Namespace",
    "jsonargparse._namespace.Namespace",
)
"""Classes whose instances are read as records of their fields."""
DICTS = (
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
"""Subclasses of dict that are read as dicts."""
ENUMS = (
    # In the hyper-parameters of perceiver-io's data modules of texts.
    "perceiver.data.text.common.Task",
)
"""Enumerations whose members are read as their values, or by their names where a file has these."""
MAX_DIMENSIONS = 64
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


class Storage:
    """Stands for a storage.

    Attributes:
        item_size: bytes per element.
        numel: its number of elements.
    """

    __slots__ = ("item_size", "numel")

    def __init__(self, item_size: int, numel: int):
        self.item_size = item_size
        self.numel = numel

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.item_size * self.numel


def check(file: BoundedReader, size: int) -> dict[str, Storage]:
    """Walks the pickle of a file's objects.

    Args:
        file: stands at the pickle's begin.
        size: of the whole file in bytes; no storage can be larger.

    Returns:
        The storages that tensors lie in, by key.

    Raises:
        PickleError: it is damaged, a name is not on the list, or a size cannot be.
    """
    storages: dict[str, Storage] = {}

    def storage(pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise PickleError("a persistent id that is no storage")
        _, kind, key, location, numel, *view = pid
        if (
            not isinstance(kind, _Sized)
            or not isinstance(key, str)
            or not isinstance(location, str)
        ):
            raise PickleError("a storage of unknown kind")
        if view not in ([], [None]):
            raise PickleError(f"storage {key!r} is a view of another")
        made = Storage(kind.item_size, _count(numel))
        if made.nbytes > size:
            raise PickleError(f"storage {key!r} declares {made.nbytes} bytes, the file has {size}")
        known = storages.setdefault(key, made)
        if (known.item_size, known.numel) != (made.item_size, made.numel):
            raise PickleError(f"storage {key!r} is declared in two ways")
        return known

    pickles.load(file, _allowed(size), storage)
    return storages


def check_legacy(file: BoundedReader) -> None:
    """Walks a file of the layout before 1.6: five pickles, then the bytes of all storages.

    Raises:
        PickleError: it is none, or see `check`.
    """
    if pickles.load(file, {}) != LEGACY_MAGIC:
        raise PickleError("it is neither a zip archive nor begins with PyTorch's magic number")
    if pickles.load(file, {}) != LEGACY_PROTOCOL:
        raise PickleError("it is of an unknown version")
    pickles.load(file, {})
    storages = check(file, file.size)
    keys = pickles.load(file, {})
    if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
        raise PickleError("its list of storages is damaged")
    if sorted(keys) != sorted(storages):
        raise PickleError("its list of storages is not that of its tensors")
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        if count != storages[key].numel or file.left() < storages[key].nbytes:
            raise PickleError(f"storage {key!r} is cut off, or of another size than declared")
        file.seek(file.tell() + storages[key].nbytes)


class _Sized(Global):
    """Stands for a kind of storage or a dtype."""

    __slots__ = ("item_size",)

    def __init__(self, name: str, item_size: int):
        super().__init__(name)
        self.item_size = item_size


class _Tensor:
    """Stands for a tensor that lies within its storage."""

    __slots__ = ()


class _Record(Built):
    """Stands for an instance of one of `RECORDS`."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        if not isinstance(state, dict) or any(not isinstance(name, str) for name in state):
            raise PickleError("an instance whose state is no dict of fields")


def _allowed(size: int) -> dict[str, Global]:
    """Stand-ins for the names that a file may mention.

    Args:
        size: of the file in bytes.
    """

    def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        return _within(storage, storage, offset, shape, strides)

    def tensor_of_dtype(
        storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any
    ) -> _Tensor:
        return _within(storage, dtype, offset, shape, strides)

    def parameter(data: Any, *_: Any) -> _Tensor:
        if not isinstance(data, _Tensor):
            raise PickleError("a parameter without a tensor")
        return data

    def shape(lengths: Any = ()) -> tuple[int, ...]:
        return tuple(_count(length) for length in lengths)

    def device(*_: Any) -> None:
        return None

    def member_by_name(of: Any, name: Any) -> str:
        if type(of) is not Global or of.name not in ENUMS or type(name) is not str:
            raise PickleError("an attribute of something that is no enumeration")
        return name

    def member(value: Any) -> Any:
        if type(value) not in (int, str):
            raise PickleError("a member of an enumeration whose value is no number or text")
        return value

    calls: dict[str, Callable[..., Any]] = {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_of_dtype,
        "torch._utils._rebuild_parameter": parameter,
        "torch.Size": shape,
        "torch.device": device,
        "collections.OrderedDict": pickles.Ordered,
        **{name: _Record for name in RECORDS},
        **{name: dict for name in DICTS},
        **{name: member for name in ENUMS},
        # Python 3.11.0 to 3.11.3 pickle a member by its name.
        "builtins.getattr": member_by_name,
        "__builtin__.getattr": member_by_name,
    }
    allowed = {name: Global(name, call) for name, call in calls.items()}
    allowed["_codecs.encode"] = pickles.encoder(size)
    sized = {
        **{f"torch.{kind}Storage": item for kind, item in ITEM_SIZES.items()},
        "torch.storage.UntypedStorage": 1,
        **{f"torch.{name}": item for name, item in DTYPES.items()},
    }
    return {**allowed, **{name: _Sized(name, item) for name, item in sized.items()}}


def _within(storage: Any, kind: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    if not isinstance(storage, Storage) or not isinstance(kind, (Storage, _Sized)):
        raise PickleError("a tensor without a storage of known kind")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise PickleError("a tensor without shape and strides")
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise PickleError(f"a tensor of {len(shape)} dimensions and {len(strides)} strides")
    lengths, steps = [_count(n) for n in shape], [_count(n) for n in strides]
    room = storage.nbytes // kind.item_size
    last = _count(offset) + sum((n - 1) * step for n, step in zip(lengths, steps, strict=True))
    # A stride of 0 repeats one element without end.
    if 0 not in lengths and (last >= room or math.prod(lengths) > room):
        raise PickleError(
            f"a tensor of shape {lengths} with strides {steps} in a storage of {room} elements"
        )
    return _Tensor()


def _count(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 48:
        raise PickleError(f"a size that is no size: {str(number)[:40]}")
    return number
