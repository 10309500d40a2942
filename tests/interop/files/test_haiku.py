"""Haiku's pickles: what is read of good ones, what is written, and that hostile ones do nothing."""

import contextlib
import pickle
import tracemalloc

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from interop.files import FileError, haiku, pickles
from interop.files.pickles import Global, PickleError
from interop.files.reader import BoundedReader
from tests.interop.files import hostile

GOLDEN = (
    "tiny_imagenet_learned_position_encoding.pystate",
    "tiny_imagenet_fourier_position_encoding.pystate",
    "tiny_imagenet_conv_preprocessing.pystate",
    "tiny_language_perceiver_io_bytes.pickle",
    "tiny_optical_flow.pystate",
    "tiny_video_autoencoding.pystate",
)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "params/encoder/~/trainable_position_encoding/pos_embs": rng.normal(size=(3, 4)).astype(
            "f4"
        ),
        "params/encoder/linear/w": np.asfortranarray(rng.normal(size=(2, 3))),
        "params/encoder/linear/b": np.arange(3, dtype=np.float16),
        "params/encoder/linear/empty": np.zeros((3, 0), np.int64),
        "state/norm/~/mean_ema/counter": np.array(7, np.int32),
    }


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def nested(arrays):
    tree = {"params": {}, "state": {}}
    for name, array in arrays.items():
        part, rest = name.split("/", 1)
        module, own = rest.rsplit("/", 1)
        tree[part].setdefault(module, {})[own] = array
    return tree


@pytest.mark.parametrize("name", GOLDEN)
def test_files_of_the_released_layouts_are_read(golden, name):
    arrays = haiku.read(golden / name)
    with np.load((golden / name).with_suffix(".npz")) as expected:
        names = [key for key in expected if key.startswith(("params/", "state/"))]
        same({key: arrays[key] for key in names}, {key: expected[key] for key in names})
    assert len(arrays) == len(names)


def test_a_written_file_is_read_back(tmp_path, arrays):
    haiku.write(tmp_path / "a.pystate", arrays)
    same(haiku.read(tmp_path / "a.pystate"), arrays)


def test_a_written_file_is_read_by_pickle_itself(tmp_path, arrays):
    haiku.write(tmp_path / "a.pystate", arrays)
    content = (tmp_path / "a.pystate").read_bytes()
    tree = pickle.loads(content)
    assert type(tree) is dict and type(tree["params"]["encoder/linear"]) is dict
    for part, modules in nested(arrays).items():
        for module, values in modules.items():
            same(tree[part][module], values)
    # The name that releases before and since NumPy 2 both know.
    assert b"numpy.core.multiarray" in content and b"numpy._core" not in content
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pystate"]


def test_a_model_without_state_is_written_with_an_empty_one(tmp_path):
    haiku.write(tmp_path / "a.pystate", {"params/linear/b": np.ones(2)})
    assert pickle.loads((tmp_path / "a.pystate").read_bytes())["state"] == {}


def test_a_language_model_is_written_as_modules_alone(tmp_path):
    """As it was released, and read back under the same names."""
    arrays = {"params/a/linear/b": np.ones(2, np.float32)}
    haiku.write(tmp_path / "a.pickle", arrays, bare=True)
    content = pickle.loads((tmp_path / "a.pickle").read_bytes())
    assert content.keys() == {"a/linear"} and content["a/linear"].keys() == {"b"}
    assert haiku.read(tmp_path / "a.pickle").keys() == arrays.keys()
    with pytest.raises(FileError, match="expected params/MODULE/NAME$"):
        haiku.write(tmp_path / "b.pickle", {"state/a/b": np.ones(2)}, bare=True)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(tmp_path, arrays, protocol):
    arrays = {**arrays, "state/norm/~/mean_ema/swapped": np.arange(3, dtype=">f4")}
    (tmp_path / "a.pystate").write_bytes(pickle.dumps(nested(arrays), protocol))
    read = haiku.read(tmp_path / "a.pystate")
    np.testing.assert_array_equal(read.pop("state/norm/~/mean_ema/swapped"), [0, 1, 2])
    arrays.pop("state/norm/~/mean_ema/swapped")
    same(read, arrays)


@pytest.mark.parametrize("name", ["FlatMapping", "FlatMap", "frozendict"])
def test_haikus_mappings_are_read(tmp_path, name):
    mapping = f"chaiku._src.data_structures\n{name}\n".encode()
    inner = mapping + b"}" + hostile.text("w") + hostile.array(b"K\1") + b"s\x85R"
    outer = b"\x80\x03" + mapping + b"}" + hostile.text("a/linear") + inner + b"s\x85R."
    (tmp_path / "a.pickle").write_bytes(outer)
    same(haiku.read(tmp_path / "a.pickle"), {"params/a/linear/w": np.zeros(1, np.float32)})


def test_arrays_of_jax_and_scalars_are_read(tmp_path):
    tree = {"params": {"m": {"a": jnp.arange(3.0), "b": np.float32(2)}}, "state": {}}
    (tmp_path / "a.pystate").write_bytes(pickle.dumps(tree))
    expected = {"params/m/a": np.arange(3, dtype=np.float32), "params/m/b": np.float32(2)}
    same(haiku.read(tmp_path / "a.pystate"), expected)


def test_bfloat16_is_read(tmp_path):
    array = np.arange(3, dtype=ml_dtypes.bfloat16)
    (tmp_path / "a.pystate").write_bytes(pickle.dumps({"params": {"m": {"a": array}}}))
    same(haiku.read(tmp_path / "a.pystate"), {"params/m/a": array})


@pytest.mark.parametrize("name", hostile.names())
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path, nothing_runs, name):
    path = tmp_path / "a.pystate"
    path.write_bytes(hostile.pickles(nothing_runs)[name])
    hostile.refused(haiku.read, path)


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "getattr chain", "nested in an allowed call", "INST"],
)
def test_the_hostile_pickles_do_run_in_pickle_itself(tmp_path, name):
    # Else it would prove nothing that they do not run in ours.
    sentinel = tmp_path / "sentinel"
    content = hostile.pickles(sentinel)[name]
    with contextlib.suppress(TypeError, AttributeError, pickle.UnpicklingError):
        pickle.loads(content)
    assert sentinel.exists()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("INST", "INST 'os system'"),
        ("BUILD on a name", "changes Global"),
        ("memo index", "memo entry 2147483647"),
        ("negative memo index", "memo entry -1"),
        ("odd escape in a name", "names"),
        ("object array", "dtype 'O8'"),
        ("shape beyond the bytes", "declares more than its 4 bytes"),
        ("product of the shape is huge", "in 4 bytes"),
        ("dtype that is a deep tuple", "an array of dtype tuple, expected numbers"),
        ("byte order that is a deep tuple", "byte order tuple"),
        ("codec that is a deep tuple", "_codecs.encode with tuple, expected text and 'latin1'"),
        ("billion laughs", "more than 100000 entries"),
        ("dict that holds itself", "8 deep"),
    ],
)
def test_a_hostile_pickle_is_refused_for_what_is_wrong_with_it(tmp_path, name, reason):
    path = tmp_path / "a.pystate"
    path.write_bytes(hostile.pickles(tmp_path / "sentinel")[name])
    hostile.refused(haiku.read, path, reason)


def test_what_nests_too_deeply_for_python_is_refused(tmp_path):
    def nests():
        raise RecursionError("too deep")

    (tmp_path / "a").write_bytes(b"ca\nb\n)R.")
    with BoundedReader(tmp_path / "a") as file, pytest.raises(PickleError, match="too deep"):
        pickles.load(file, {"a.b": Global("a.b", nests)})


def test_a_refused_name_is_told(tmp_path):
    path = tmp_path / "a.pystate"
    path.write_bytes(hostile.in_params(hostile.calling(b"os\nsystem", "true")))
    hostile.refused(haiku.read, path, "'os.system'", "not in the list of allowed names")


def test_a_hostile_file_does_not_alter_how_the_next_is_read(tmp_path, arrays):
    good, bad = tmp_path / "good.pystate", tmp_path / "bad.pystate"
    haiku.write(good, arrays)
    state = b"(K\3" + hostile.text(">") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    bad.write_bytes(hostile.in_params(hostile.array(b"K\1", dtype=hostile.FLOAT32 + state)))
    haiku.read(bad)
    same(haiku.read(good), arrays)


def test_files_that_are_cut_off_are_refused(tmp_path, arrays):
    haiku.write(tmp_path / "a.pystate", arrays)
    content = (tmp_path / "a.pystate").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "a.pystate").write_bytes(content[:length])
        with pytest.raises(FileError):
            haiku.read(tmp_path / "a.pystate")


def test_no_file_an_empty_one_or_a_folder_is_told(tmp_path):
    hostile.refused(haiku.read, tmp_path / "none.pystate", "no file")
    (tmp_path / "empty.pystate").touch()
    hostile.refused(haiku.read, tmp_path / "empty.pystate", "empty", "download")
    hostile.refused(haiku.read, tmp_path, "folder")


def test_names_of_ruined_arrays_are_told(tmp_path, arrays):
    arrays["params/encoder/linear/w"][1, 2] = np.nan
    haiku.write(tmp_path / "a.pystate", arrays)
    hostile.refused(haiku.read, tmp_path / "a.pystate", "params/encoder/linear/w", "NaN")


def test_memory_stays_within_a_small_multiple_of_the_file(tmp_path):
    arrays = {f"params/m/{i}": np.zeros(1 << 18, np.float32) for i in range(8)}
    haiku.write(tmp_path / "a.pystate", arrays)
    tracemalloc.start()
    haiku.read(tmp_path / "a.pystate")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * (8 << 20)


@pytest.mark.parametrize("name", ["w", "params/w", "params/m/", "opt_state/m/w"])
def test_a_name_that_is_not_haikus_is_not_written(tmp_path, name):
    with pytest.raises(FileError, match="MODULE/NAME"):
        haiku.write(tmp_path / "a.pystate", {name: np.ones(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["O", "U1", ml_dtypes.bfloat16])
def test_a_dtype_that_numpy_alone_does_not_read_is_not_written(tmp_path, dtype):
    with pytest.raises(FileError, match="float32"):
        haiku.write(tmp_path / "a.pystate", {"params/m/w": np.zeros(1, dtype)})
