"""NumPy's archives: round trips, texts, and archives that are damaged or lie."""

import io
import zipfile

import ml_dtypes
import numpy as np
import pytest

from interop.files import FileError, npz
from tests.interop.files import hostile


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "params/a/w": np.asfortranarray(rng.normal(size=(2, 3))),
        "params/a/b": rng.normal(size=3).astype(np.float32),
        "state/count": np.array(3, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "config": np.array('{"a": 1}'),
        "file": np.array([1 + 2j, 3]),
    }


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def archive(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in contents.items():
            file.writestr(name, content)


def member(header, data=bytes(16), version=(1, 0)):
    """A `.npy` file with any text as its header."""
    header = header.encode() + b"\n"
    length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + header + data


def described(descr="'<f4'", shape="(4,)", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


def test_a_written_file_is_read_back(tmp_path, arrays):
    npz.write(tmp_path / "a.npz", arrays)
    same(npz.read(tmp_path / "a.npz"), arrays)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npz"]


def test_a_written_file_is_read_by_numpy_itself(tmp_path, arrays):
    npz.write(tmp_path / "weights", arrays)
    with np.load(tmp_path / "weights", allow_pickle=False) as file:
        same(dict(file), arrays)


def test_compressed_archives_and_other_byte_orders_are_read(tmp_path, arrays):
    np.savez_compressed(tmp_path / "a.npz", w=arrays["params/a/w"], b=np.arange(3, dtype=">f4"))
    expected = {"w": arrays["params/a/w"], "b": np.arange(3, dtype=np.float32)}
    same(npz.read(tmp_path / "a.npz"), expected)


def test_golden_archives_are_read_whole(golden):
    for path in sorted(golden.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            same(npz.read(path), dict(file))


@pytest.mark.parametrize("array", [np.zeros(2, ml_dtypes.bfloat16), np.array([None])])
def test_dtypes_that_npz_files_cannot_hold_are_not_written(tmp_path, array):
    with pytest.raises(FileError, match="'w' is of"):
        npz.write(tmp_path / "a.npz", {"w": array})
    assert not list(tmp_path.iterdir())


def test_python_objects_are_refused_and_run_nothing(tmp_path, nothing_runs):
    header = member(described("'|O'", "(1,)"), hostile.pickles(nothing_runs)["os.system"])
    archive(tmp_path / "a.npz", {"w.npy": header})
    hostile.refused(npz.read, tmp_path / "a.npz", "'w.npy'", "dtype object")
    archive(tmp_path / "b.npz", {"w.npy": hostile.pickles(nothing_runs)["os.system"]})
    hostile.refused(npz.read, tmp_path / "b.npz", "'w.npy'")


@pytest.mark.parametrize(
    "content",
    [
        member(described(shape="(1099511627776,)")),
        member(described(shape="(1152921504606846976, 16)")),
        member(described(shape="(4294967296, 4294967296, 4294967296, 0)"), b""),
        member(described(shape="(9223372036854775808, 0)"), b""),
        member(described(shape="(-4,)")),
        member(described(shape="(-2, -2)")),
        member(described(shape="(3,)")),
        member(described(shape="(5,)")),
        member(described(shape="(4.0,)")),
        member(described(shape="4")),
        member(described(shape="(1,) * 4")),
        member(described(shape="(" * 5_000)),
        member(described(shape="(4,), 'odd': 1")),
        member(described(order="0")),
        member(described("'O'", "(2,)")),
        member(described("[('a', '<f4')]")),
        member(described("[('a', 'O')]", "(2,)")),
        member(described("('<f4', (1000000000,))", "(1,)")),
        member(described("'V4'")),
        member(described("'<M8[s]'", "(2,)")),
        member(described("'no'")),
        member(described("__import__('os').system('true')")),
        member("'\\d' 1l 0_7"),
        member("[" * 9_000),
        member(described() + " " * 20_000),
        member(described(), version=(2, 0))[:20],
        member(described(), version=(3, 0)),
        member(described(), version=(9, 9)),
        member(described(), b""),
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\2\0\xff\xff\xff\xff",
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, nothing_runs, content):
    archive(tmp_path / "a.npz", {"good.npy": member(described()), "w.npy": content})
    hostile.refused(npz.read, tmp_path / "a.npz", "'w.npy'")


def test_a_zip_bomb_is_refused(tmp_path):
    bomb = member(described(shape="(67108864,)"), bytes(1 << 28))
    archive(tmp_path / "a.npz", {"w.npy": bomb}, zipfile.ZIP_DEFLATED)
    hostile.refused(npz.read, tmp_path / "a.npz", "unpacked", "50 times")


def test_a_zip_bomb_that_declares_little_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    archive(path, {"w.npy": bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    for at in (22, content.rindex(b"PK\1\2") + 24):
        assert content[at : at + 4] == (1 << 28).to_bytes(4, "little")
        content[at : at + 4] = (1 << 12).to_bytes(4, "little")
    path.write_bytes(content)
    hostile.refused(npz.read, path, "'w.npy' is damaged")


def test_members_that_share_their_bytes_are_refused(tmp_path):
    # The directory of a zip file can name the same bytes many times.
    path = tmp_path / "a.npz"
    archive(path, {"w0.npy": member(described(shape="(100000,)"), bytes(400_000))})
    with zipfile.ZipFile(path, "a") as file:
        first = file.infolist()[0]
        for number in range(1, 200):
            again = zipfile.ZipInfo(f"w{number}.npy")
            for field in ("CRC", "compress_size", "file_size", "header_offset"):
                setattr(again, field, getattr(first, field))
            file.filelist.append(again)
        file._didModify = True
    hostile.refused(npz.read, path, "unpacked")


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("w.npy", member(described()))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("w.npy", member(described()))
    hostile.refused(npz.read, tmp_path / "a.npz", "one name")


def test_members_that_are_no_arrays_are_refused(tmp_path):
    archive(tmp_path / "a.npz", {"w.txt": b"hello"})
    hostile.refused(npz.read, tmp_path / "a.npz", "'w.txt'")


def test_a_directory_larger_than_the_file_is_refused(tmp_path, arrays):
    npz.write(tmp_path / "a.npz", arrays)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[-10:-6] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.npz").write_bytes(content)
    hostile.refused(npz.read, tmp_path / "a.npz", "a NumPy archive")


def test_files_that_are_cut_off_are_refused(tmp_path, arrays):
    npz.write(tmp_path / "a.npz", arrays)
    content = (tmp_path / "a.npz").read_bytes()
    for length in range(0, len(content), 23):
        (tmp_path / "a.npz").write_bytes(content[:length])
        hostile.refused(npz.read, tmp_path / "a.npz")


def test_a_flipped_bit_in_the_weights_is_found(tmp_path):
    npz.write(tmp_path / "a.npz", {"w": np.ones(100, np.float32)})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(np.ones(100, np.float32).tobytes()) + 41] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    hostile.refused(npz.read, tmp_path / "a.npz", "'w.npy' is damaged", "CRC")


def test_names_of_ruined_arrays_are_told(tmp_path):
    npz.write(tmp_path / "a.npz", {"good": np.ones(2), "bad": np.array([1, np.nan])})
    assert "good" not in hostile.refused(npz.read, tmp_path / "a.npz", "bad hold")


def test_no_file_an_empty_one_another_or_a_folder_is_told(tmp_path):
    hostile.refused(npz.read, tmp_path / "none.npz", "no file")
    (tmp_path / "empty.npz").touch()
    hostile.refused(npz.read, tmp_path / "empty.npz", "empty")
    hostile.refused(npz.read, tmp_path, "folder")
    single = io.BytesIO()
    np.save(single, np.ones(2))
    (tmp_path / "a.npz").write_bytes(single.getvalue())
    hostile.refused(npz.read, tmp_path / "a.npz", "a NumPy archive")
