"""A reader that makes no room for more than there is."""

import pytest

from interop.files.reader import BoundedReader
from tests.interop.files import hostile


@pytest.fixture(params=["file", "bytes"])
def reader(request, tmp_path):
    (tmp_path / "a").write_bytes(b"one\ntwo")
    with BoundedReader(tmp_path / "a" if request.param == "file" else b"one\ntwo") as reader:
        yield reader


def test_no_more_is_read_than_there_is(reader):
    assert reader.size == reader.left() == 7
    with hostile.bounded_memory():
        assert reader.read(1 << 40) == b"one\ntwo"
    assert reader.read(1) == b"" and reader.left() == 0


def test_lines_and_positions_are_those_of_a_file(reader):
    assert reader.readline() == b"one\n"
    assert reader.tell() == 4 and reader.left() == 3
    assert reader.readline() == b"two"
    assert reader.seek(-3, 2) == 4
    assert reader.read() == b"two"
    reader.seek(100)
    assert reader.left() == 0 and reader.read(5) == b""


def test_an_ordinary_file_would_make_room(tmp_path):
    # Else the tests with bounded memory would prove nothing.
    (tmp_path / "a").write_bytes(b"one")
    with hostile.bounded_memory(), (tmp_path / "a").open("rb") as file:
        with pytest.raises(MemoryError):
            file.read(1 << 40)
