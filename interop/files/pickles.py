"""A pickle reader of our own, which builds plain values and what its caller allows, nothing else.

- Python's unpickler imports what a file names and calls it. This one imports nothing: a name in
  the file is looked up in a table of stand-ins, and only these can be called or given a state.
- `pickletools.genops` splits the bytes into opcodes; it builds numbers and texts only.
- The rest of a pickle is a stack machine; the opcodes that real writers of weights use are here,
  the others are refused by name.
"""

import pickletools
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from interop.files.reader import BoundedReader

MAX_OPCODES = 1_000_000
"""A file of weights has some 40 per array; each may cost a hundred bytes of memory."""
PROTOCOL = 5
MESSAGE = 400
KEYS = (str, bytes, int, float, bool, type(None))
_EMPTY = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE SHORT_BINUNICODE "
    "BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_PYTHON2 = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))


class PickleError(ValueError):
    """A pickle is damaged or asks for something that is not allowed."""

    def __init__(self, message: str):
        # What a file names can be as long as the file.
        super().__init__(message[:MESSAGE])


class Global:
    """Stands for a function or class that a pickle names, and is never the thing itself.

    Attributes:
        name: as in the file, with dots.
        call: what a call of it makes, from its arguments; None: it cannot be called.
    """

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any] | None = None):
        self.name = name
        self.call = call


class Built:
    """Stands for an instance of a class; a pickle may give it a state."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """Takes the state that the pickle gives."""
        raise NotImplementedError


class Ordered(dict, Built):
    """Stands for an OrderedDict; PyTorch hangs its versions of modules on one."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """Checks the attributes, which nobody reads."""
        if not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise PickleError("an OrderedDict with attributes of its own")


def load(
    file: BoundedReader,
    allowed: Mapping[str, Global],
    storage: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle.

    Args:
        file: stands at the pickle's begin; afterwards behind its end.
        allowed: what the pickle may name; fresh for every load, as calls may keep accounts.
        storage: gives the object for a persistent id; None: there may be none.

    Raises:
        PickleError: damaged, or something in it is not allowed.
    """
    try:
        with warnings.catch_warnings():
            # pickletools warns of odd escapes in texts.
            warnings.simplefilter("ignore")
            return _Machine(file, allowed, storage).run()
    except PickleError:
        raise
    except (
        ValueError,
        TypeError,
        IndexError,
        OverflowError,
        RecursionError,
        struct.error,
    ) as error:
        # What broken bytes do to pickletools, and wrong arguments to a stand-in.
        raise PickleError(f"damaged pickle: {error}") from None


def shown(value: Any) -> str:
    """A value for a message: text in quotes, of anything else only the type.

    Python cannot show tuples that lie in one another some thousand deep.
    """
    return repr(value) if isinstance(value, str) else type(value).__name__


def encoder(limit: int) -> Global:
    """Stands for `_codecs.encode`, by which old protocols write bytes.

    Args:
        limit: how many bytes all its calls may make: a text can be named again and again.
    """
    left = limit

    def encode(text: str, encoding: str = "latin1") -> bytes:
        nonlocal left
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise PickleError(f"_codecs.encode with {shown(encoding)}, expected text and 'latin1'")
        left -= len(text)
        if left < 0:
            raise PickleError(f"bytes written as text sum up to more than {limit}")
        return text.encode("latin1")

    return Global("_codecs.encode", encode)


class _Machine:
    def __init__(self, file, allowed, storage):
        self.file = file
        self.allowed = allowed
        self.storage = storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for count, (name, argument) in enumerate(_opcodes(self.file)):
            if count == MAX_OPCODES:
                raise PickleError(f"more than {MAX_OPCODES} opcodes")
            if name in _LITERALS:
                self.stack.append(bytes(argument) if name == "BYTEARRAY8" else argument)
            elif name in _EMPTY:
                self.stack.append(_EMPTY[name]())
            elif name == "STOP":
                if len(self.stack) != 1:
                    raise PickleError(f"it ends with {len(self.stack)} results, expected one")
                return self.stack[0]
            elif name in _PYTHON2:
                # pickletools decodes them as Latin-1; torch's files have short ones.
                self.stack.append(argument)
            else:
                method = getattr(self, f"on_{name.lower()}", None)
                if method is None:
                    told = f"{name} {argument!r}" if isinstance(argument, str) else name
                    raise PickleError(f"opcode {told}, which files of weights do not use")
                method(argument)
        raise PickleError("its end is missing")

    # Structure: containers and the stack.

    def on_proto(self, version):
        if version > PROTOCOL:
            raise PickleError(f"pickle protocol {version}, expected at most {PROTOCOL}")

    def on_frame(self, size):
        if size > self.file.left():
            raise PickleError(f"a frame of {size} bytes, {self.file.left()} are left")

    def on_mark(self, _):
        self.marks.append(len(self.stack))

    def on_pop(self, _):
        self.pop()

    def on_pop_mark(self, _):
        self.pop_mark()

    def on_dup(self, _):
        self.stack.append(self.top())

    def on_tuple(self, _):
        self.stack.append(tuple(self.pop_mark()))

    def on_tuple1(self, _):
        self.stack.append((self.pop(),))

    def on_tuple2(self, _):
        last, first = self.pop(), self.pop()
        self.stack.append((first, last))

    def on_tuple3(self, _):
        last, middle, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, middle, last))

    def on_list(self, _):
        self.stack.append(self.pop_mark())

    def on_append(self, _):
        value = self.pop()
        self.target(list).append(value)

    def on_appends(self, _):
        values = self.pop_mark()
        self.target(list).extend(values)

    def on_dict(self, _):
        items = self.pop_mark()
        self.stack.append({})
        self.set_items(items)

    def on_setitem(self, _):
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def on_setitems(self, _):
        self.set_items(self.pop_mark())

    # The memo.

    def on_memoize(self, _):
        self.memo[len(self.memo)] = self.top()

    def on_put(self, index):
        if not 0 <= index <= MAX_OPCODES:
            raise PickleError(f"memo entry {index}, expected at most {MAX_OPCODES}")
        self.memo[index] = self.top()

    def on_get(self, index):
        if index not in self.memo:
            raise PickleError(f"memo entry {index} is read before it is written")
        self.stack.append(self.memo[index])

    on_binput = on_long_binput = on_put
    on_binget = on_long_binget = on_get

    # Names, calls and states: of stand-ins only.

    def on_global(self, name):
        # pickletools puts a space between the two.
        self.named(*name.split(" ", 1))

    def on_stack_global(self, _):
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("a global whose name is not text")
        self.named(module, name)

    def on_reduce(self, _):
        arguments, function = self.pop(), self.pop()
        self.call(function, arguments)

    def on_newobj(self, _):
        arguments, cls = self.pop(), self.pop()
        self.call(cls, arguments)

    def on_build(self, _):
        state = self.pop()
        self.target(Built).build(state)

    def on_binpersid(self, _):
        if self.storage is None:
            raise PickleError("a persistent id, which refers to something outside of the file")
        self.stack.append(self.storage(self.pop()))

    def named(self, module, name):
        full = f"{module}.{name}"
        if full not in self.allowed:
            raise PickleError(f"it names {full!r}, which is not in the list of allowed names")
        self.stack.append(self.allowed[full])

    def call(self, function, arguments):
        if not isinstance(function, Global) or function.call is None:
            name = getattr(function, "name", type(function).__name__)
            raise PickleError(f"a call of {name}, which is no function of the allowed names")
        if type(arguments) is not tuple:
            raise PickleError(f"a call of {function.name} without a tuple of arguments")
        self.stack.append(function.call(*arguments))

    # What the methods above share.

    def pop(self):
        self.top()
        return self.stack.pop()

    def top(self):
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) <= floor:
            raise PickleError("it takes more from its stack than lies there")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise PickleError("a mark is missing")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def target(self, kind: type) -> Any:
        target = self.top()
        if not isinstance(target, kind):
            raise PickleError(f"it changes {type(target).__name__}, expected {kind.__name__}")
        return target

    def set_items(self, items: list[Any]) -> None:
        target = self.target(dict)
        if len(items) % 2:
            raise PickleError("a dict with a key without value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Python hashes nested tuples without watching the depth of its own stack.
            if not isinstance(key, KEYS):
                raise PickleError(f"a dict with a key of type {type(key).__name__}")
            target[key] = value


def _opcodes(file: BoundedReader) -> Iterator[tuple[str, Any]]:
    for opcode, argument, _ in pickletools.genops(file):  # pyright: ignore[reportArgumentType]
        yield opcode.name, argument
