"""Pickles that try to run something, to reach outside or to use up memory; and bounds to test with.

- They are put together by hand: Python's own pickler would refuse to write most of them.
- What they call writes a file, so that a test can see that nothing ran.
"""

import contextlib
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

NEW_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\1btR"
DEEP = b")" + b"\x85" * 200_000
FLOAT32 = b"cnumpy\ndtype\n(X\2\0\0\0f4\x89\x88tR"


def text(value: str) -> bytes:
    """Pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def calling(name: bytes, argument: str) -> bytes:
    """Pushes the result of a call with one text."""
    return b"c" + name + b"\n" + text(argument) + b"\x85R"


def array(shape: bytes, content: bytes = b"\0\0\0\0", dtype: bytes = FLOAT32) -> bytes:
    """Pushes an array.

    Args:
        shape: opcodes between the mark and the end of a tuple.
        content: its bytes.
        dtype: opcodes that push the dtype.
    """
    content = b"B" + struct.pack("<I", len(content)) + content
    return NEW_ARRAY + b"(K\1(" + shape + b"t" + dtype + b"\x89" + content + b"tb"


def in_params(value: bytes, protocol: int = 3) -> bytes:
    """A whole pickle of {'params': {'linear': {'w': VALUE}}}."""
    begin = b"\x80" + bytes([protocol]) + b"}" + text("params") + b"}" + text("linear") + b"}"
    return begin + text("w") + value + b"sss."


def pickles(sentinel: Path) -> dict[str, bytes]:
    """Hostile pickles by what they try.

    Args:
        sentinel: the file that is written if one of them runs something.
    """
    command = f"echo ran > {sentinel}"
    code = f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    system = calling(b"os\nsystem", command)
    evil = calling(b"builtins\neval", code)
    getattr_chain = (
        b"cbuiltins\ngetattr\ncbuiltins\n__import__\n"
        + text("os")
        + b"\x85R"
        + text("system")
        + b"\x86R"
        + text(command)
        + b"\x85R"
    )
    values = {
        "os.system": system,
        "posix.system": calling(b"posix\nsystem", command),
        "builtins.eval": evil,
        "builtins.exec": calling(b"__builtin__\nexec", code),
        "subprocess": calling(b"subprocess\ngetoutput", command),
        "getattr chain": getattr_chain,
        "nested in an allowed call": b"cnumpy\ndtype\n" + system + b"\x85R",
        "nested in an array's state": NEW_ARRAY + b"(K\1(K\1t" + evil + b"\x89C\4\0\0\0\0tb",
        "nested in a container": b"](" + system + evil + b"e",
        "result thrown away": system + b"0" + array(b"K\1"),
        "stack global": text("os") + text("system") + b"\x93" + text(command) + b"\x85R",
        "dotted name": text("numpy") + text("ndarray.tofile") + b"\x93)R",
        "odd escape in a name": b"cnumpy\\q\nndarray\n",
        "another function of numpy": calling(b"numpy.core.multiarray\nfromfile", "/etc/passwd"),
        "numpy.load": calling(b"numpy\nload", str(sentinel)),
        "call of a class that only stands": b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR",
        "call of a text": text("os.system") + text(command) + b"\x85R",
        "INST": b"(" + text(command) + b"ios\nsystem\n",
        "OBJ": b"(cos\nsystem\n" + text(command) + b"o",
        "NEWOBJ": b"csubprocess\nPopen\n" + text(command) + b"\x85\x81",
        "NEWOBJ_EX": b"cnumpy\ndtype\n)}\x92",
        "EXT1": b"\x82\x01" + text(command) + b"\x85R",
        "EXT2": b"\x83\x01\x00" + text(command) + b"\x85R",
        "EXT4": b"\x84\x01\x00\x00\x00" + text(command) + b"\x85R",
        "persistent id": text("storage") + b"Q",
        "persistent id as a line": b"Pstorage\n",
        "buffer outside of the file": b"\x97",
        "BUILD on a name": b"cnumpy\ndtype\n}" + text("call") + text("x") + b"sb",
        "BUILD on a plain dict": b"}}" + text("__class__") + text("x") + b"sb",
        "BUILD of an attribute": b"ccollections\nOrderedDict\n)R}"
        + text("get")
        + text("x")
        + b"sb",
        "BUILD of __setstate__": NEW_ARRAY + b"}" + text("__setstate__") + text("x") + b"sb",
        "array filled twice": array(b"K\1") + b"(K\1(K\1t" + FLOAT32 + b"\x89C\4\0\0\0\0tb",
        "array never filled": NEW_ARRAY,
        "item of a name": b"cnumpy\ndtype\n" + text("a") + text("b") + b"s",
        "append to a dict": b"}" + text("a") + b"a",
        "key that is a deep tuple": b"})" + b"\x85" * 200_000 + b"Ns",
        "memo read before written": b"h\x07",
        "memo index": b"Nr\xff\xff\xff\x7f",
        "memo index as text": b"Np99999999999\n",
        "negative memo index": b"Np-1\n",
        "length beyond the file": b"B\xff\xff\xff\xff",
        "text length beyond the file": b"\x8d" + struct.pack("<Q", 1 << 40),
        "bytearray beyond the file": b"\x96" + struct.pack("<Q", 1 << 62),
        "frame beyond the file": b"\x95" + struct.pack("<Q", 1 << 40) + array(b"K\1"),
        "int of many digits": b"I" + b"9" * 100_000 + b"\n",
        "stack underflow": b"00000000",
        "mark missing": b"t",
        "object array": array(b"K\1", b"", b"cnumpy\ndtype\n(X\2\0\0\0O8\x89\x88tR"),
        "array of objects in a list": NEW_ARRAY
        + b"(K\1(K\1tcnumpy\ndtype\n(X\2\0\0\0O8\x89\x88tR\x89](Neatb",
        "dtype that is a deep tuple": b"cnumpy\ndtype\n" + DEEP + b"\x85R",
        "byte order that is a deep tuple": FLOAT32 + b"(K\3" + DEEP + b"NNNtb",
        "codec that is a deep tuple": b"c_codecs\nencode\n" + text("a") + DEEP + b"\x86R",
        "array of texts": array(b"K\1", b"\0" * 4, b"cnumpy\ndtype\n(X\2\0\0\0U1\x89\x88tR"),
        "dtype with fields": array(
            b"K\1", dtype=FLOAT32 + b"(K\3" + text("<") + b"N}" + text("a") + b"NsNK\4K\1K\0tb"
        ),
        "shape beyond the bytes": array(b"\x8a\x06\0\0\0\0\0\1"),
        "product of the shape overflows": array(b"\x8a\x08" + b"\0" * 7 + b"\x40" + b"K\4"),
        "product of the shape is huge": array(b"K\4" * 32),
        "too many axes": array(b"K\1" * 33),
        "negative shape": array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff"),
        "shape of floats": array(b"G\x3f\xf0\0\0\0\0\0\0"),
        "huge empty shape": array(b"K\0\x8a\x08" + b"\xff" * 7 + b"\x7f", b""),
        "shape of True": array(b"\x88"),
        "bytes of numbers": NEW_ARRAY + b"(K\1(K\1t" + FLOAT32 + b"\x89K\4tb",
        "huge bytes": b"cbuiltins\nbytes\n\x8a\x06\0\0\0\0\0\1\x85R",
        "other codec": b"c_codecs\nencode\n" + text("a") + text("zip_codec") + b"\x86R",
        "bytes from one text, again and again": b"c_codecs\nencode\nq\0"
        + text("x" * 50_000)
        + text("latin1")
        + b"\x86q\1"
        + b"h\0h\1R" * 50_000,
        "scalar of objects": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n"
        + b"(X\2\0\0\0O8\x89\x88tRC\0tR",
        "list that holds itself": b"]q\0h\0a",
        "dict that holds itself": b"}q\0" + text("a") + b"h\0s",
        "deep dicts": (b"}" + text("a")) * 5_000 + b"}" + b"s" * 5_000,
        "deep lists": b"]" * 100_000 + b"a" * 99_999,
        "protocol": b"\x80\xff",
        "unknown opcode": b"\xff",
        "number in place of an array": b"K\1",
        "name of no text": b"}K\1" + array(b"K\1") + b"s",
        "empty name": b"}" + text("") + array(b"K\1") + b"s",
    }
    named = {name: in_params(value) for name, value in values.items()}
    laughs = b"}q\x000" + b"".join(
        b"}("
        + b"".join(text(chr(97 + i)) + b"h" + bytes([n]) for i in range(20))
        + b"uq"
        + bytes([n + 1])
        + b"0"
        for n in range(5)
    )
    named["billion laughs"] = in_params(laughs + b"h\5")
    big = b"}q\0(" + b"".join(text(f"{i}") + array(b"K\1") for i in range(50)) + b"uq\0"
    named["one mapping again and again"] = in_params(
        big + b"0}(" + b"".join(text(f"{i}") + b"h\0" for i in range(4_000)) + b"u"
    )
    whole = array(b"\x8a\x04" + struct.pack("<i", 25_000), bytes(100_000)) + b"q\0"
    named["one array again and again"] = in_params(
        whole + b"0}(" + b"".join(text(f"{i}") + b"h\0" for i in range(1_000)) + b"u"
    )
    named["more dicts than memory"] = b"\x80\x03" + b"}" * 5_000_000 + b"."
    named["one long name again and again"] = in_params(
        b"}q\0"
        + text("x" * 50_000)
        + array(b"K\1")
        + b"s0}("
        + b"".join(text(f"{i}") + b"h\0" for i in range(20_000))
        + b"u"
    )
    named["two results"] = b"\x80\x03}}."
    named["nothing on the stack"] = b"\x80\x03."
    named["a list"] = b"\x80\x03]."
    named["beside params"] = pickle.dumps({"params": {}, "step": 3})
    named["two arrays of one name"] = (
        b"\x80\x03}"
        + text("a/b")
        + b"}"
        + text("c")
        + array(b"K\1")
        + b"ss"
        + text("a")
        + b"}"
        + text("b/c")
        + array(b"K\1")
        + b"ss."
    )
    named["protocol 0 call"] = b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."
    named["not a number"] = in_params(array(b"K\1", np.float32("nan").tobytes()))
    named["infinite"] = in_params(array(b"K\1", np.float32("-inf").tobytes()))
    return named


def names() -> list[str]:
    """Of the hostile pickles, for parametrised tests."""
    return list(pickles(Path("sentinel")))


@contextlib.contextmanager
def bounded_memory(more: int = 192 << 20) -> Iterator[None]:
    """Lets the process grow by so many bytes of address space and no further."""
    resource = pytest.importorskip("resource")
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux, which tells the size of the address space")
    used = int(re.search(r"VmSize:\s+(\d+) kB", status.read_text()).group(1)) << 10
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(read: Callable[[Path], object], path: Path, *words: str) -> str:
    """Checks that a file is refused, with words in the message and within memory.

    Returns:
        The message.
    """
    from interop.files import FileError

    with bounded_memory(), pytest.raises(FileError) as raised:
        read(path)
    message = str(raised.value)
    for word in (str(path), *words):
        assert word in message
    return message
