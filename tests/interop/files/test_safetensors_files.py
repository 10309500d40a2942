"""Safetensors files and their indexes: round trips, and files that are damaged or lie."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest

from interop.files import FileError, safetensors_files
from tests.interop.files import hostile

safetensors = pytest.importorskip("safetensors.numpy")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "bias": np.asfortranarray(rng.normal(size=(2, 3))),
        "brain": np.arange(4, dtype=ml_dtypes.bfloat16),
        "count": np.array(3, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "weight": rng.normal(size=(3, 4)).astype(np.float32),
    }


@pytest.fixture
def sharded(tmp_path, arrays):
    """A folder with an index and two shards."""
    names = sorted(arrays)
    shards = {"model-00001-of-00002.safetensors": names[:3]}
    shards["model-00002-of-00002.safetensors"] = names[3:]
    weight_map = {}
    for shard, part in shards.items():
        safetensors_files.write(tmp_path / shard, {name: arrays[name] for name in part})
        weight_map |= dict.fromkeys(part, shard)
    index = tmp_path / safetensors_files.INDEX
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def changed(index, **weights):
    content = json.loads(index.read_text())
    content["weight_map"] |= weights
    index.write_text(json.dumps(content))


def same(ours, theirs):
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def with_header(header, data=bytes(16)):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def test_a_written_file_is_read_back(tmp_path, arrays):
    path = tmp_path / "a.safetensors"
    safetensors_files.write(path, arrays, {"format": "pt"})
    same(safetensors_files.read(path), arrays)
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    assert list(tmp_path.iterdir()) == [path]


def test_names_below_a_prefix_alone_are_read(tmp_path, arrays, sharded):
    """A shard that holds none of them may be missing, and what else is wrong with it."""
    safetensors_files.write(tmp_path / "a.safetensors", arrays)
    b = {name: array for name, array in arrays.items() if name.startswith("b")}
    same(safetensors_files.read(tmp_path / "a.safetensors", "b"), b)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    same(safetensors_files.read(sharded, "b"), b)
    with pytest.raises(FileError, match="no file"):
        safetensors_files.read(sharded)


def test_transposed_arrays_and_other_byte_orders_are_written_as_they_read(tmp_path):
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    safetensors_files.write(tmp_path / "a.safetensors", {"w": array})
    read = safetensors_files.read(tmp_path / "a.safetensors")
    same(read, {"w": array.astype("<f4")})


def test_a_dtype_that_the_format_lacks_is_not_written(tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        safetensors_files.write(tmp_path / "a.safetensors", {"w": np.array("text")})
    assert not list(tmp_path.iterdir())


def test_a_folder_is_read_by_the_names_of_its_files(tmp_path, arrays):
    hostile.refused(safetensors_files.read, tmp_path, "neither", "model.safetensors")
    safetensors_files.write(tmp_path / "model.safetensors", arrays)
    same(safetensors_files.read(tmp_path), arrays)


def test_shards_are_read_by_their_index_or_folder(sharded, arrays):
    same(safetensors_files.read(sharded), arrays)
    same(safetensors_files.read(sharded.parent), arrays)


def test_shards_in_a_hub_cache_are_links_to_its_blobs(tmp_path, sharded, arrays):
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate([*tmp_path.glob("*.safetensors"), sharded]):
        file.rename(blobs / f"{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    same(safetensors_files.read(snapshot), arrays)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "folder/../../outside.safetensors",
        "{outside}",
        "..\\outside.safetensors",
        "C:outside.safetensors",
        "link.safetensors",
        "folder/inside.safetensors",
        "..",
        ".",
        "",
        "model\0.safetensors",
        "x" * 5_000,
        5,
        None,
        ["model-00001-of-00002.safetensors"],
        {},
    ],
)
def test_shards_elsewhere_than_beside_the_index_are_refused(tmp_path, name):
    home, outside = tmp_path / "home", tmp_path / "outside.safetensors"
    (home / "folder").mkdir(parents=True)
    for path in (outside, home / "folder" / "inside.safetensors"):
        safetensors_files.write(path, {"w": np.ones(1)})
    (home / "link.safetensors").symlink_to(outside)
    if name == "{outside}":
        name = str(outside)
    index = home / safetensors_files.INDEX
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    hostile.refused(safetensors_files.read, index)


def test_a_tensor_that_no_shard_has_is_named(sharded):
    changed(sharded, absent="model-00001-of-00002.safetensors")
    hostile.refused(safetensors_files.read, sharded, "'absent'", "no such tensor")


def test_a_tensor_in_another_shard_than_listed_is_named(sharded):
    changed(sharded, weight="model-00001-of-00002.safetensors")
    hostile.refused(safetensors_files.read, sharded, "'weight'", "lists it in model-00001")


def test_a_tensor_that_the_index_does_not_list_is_named(sharded, arrays):
    content = json.loads(sharded.read_text())
    del content["weight_map"]["weight"]
    sharded.write_text(json.dumps(content))
    hostile.refused(safetensors_files.read, sharded, "'weight'", "nowhere")


def test_a_missing_shard_is_named(sharded):
    (sharded.parent / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileError, match="no file .*model-00002"):
        safetensors_files.read(sharded)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": 3}', b"\xff\xfe", b"[" * 99_999],
)
def test_an_index_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "a.index.json").write_bytes(content)
    hostile.refused(safetensors_files.read, tmp_path / "a.index.json", "weight_map")


def entry(shape, begin=0, end=16, dtype="F32"):
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", (1 << 64) - 1) + b"{}",
        struct.pack("<Q", 90_000_000) + b"{}",
        with_header(entry([1 << 40], 0, 1 << 42)),
        with_header(entry([1 << 62, 4])),
        with_header(entry([1 << 32, 1 << 32])),
        with_header(entry([5])),
        with_header(entry([4], 16, 0)),
        with_header(entry([-1])),
        with_header(entry([4], dtype="O")),
        with_header(entry([4], 0, 32)),
        with_header(entry([4]) | {"v": entry([4])["w"]}),
        with_header(b"[" * 1_000),
        with_header(b'{"w": ' * 100_000),
        with_header(b""),
        b"hello",
        b"\0" * 8,
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    hostile.refused(safetensors_files.read, tmp_path / "a.safetensors", "a safetensors file")


def test_files_that_are_cut_off_are_refused(tmp_path, arrays):
    path = tmp_path / "a.safetensors"
    safetensors_files.write(path, arrays)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        hostile.refused(safetensors_files.read, path)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_names_of_ruined_weights_are_told(tmp_path, dtype):
    weights = {"good": np.ones(2), "bad": np.array([1, np.inf], dtype)}
    safetensors_files.write(tmp_path / "a.safetensors", weights)
    message = hostile.refused(safetensors_files.read, tmp_path / "a.safetensors", "bad hold")
    assert "good" not in message


def test_no_file_or_an_empty_one_is_told(tmp_path):
    hostile.refused(safetensors_files.read, tmp_path / "none.safetensors", "no file")
    for name in ("empty.safetensors", "empty.index.json"):
        (tmp_path / name).touch()
        hostile.refused(safetensors_files.read, tmp_path / name, "empty")
