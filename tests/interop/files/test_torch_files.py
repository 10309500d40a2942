"""PyTorch's files: state dicts, Lightning's checkpoints with config classes, and hostile ones."""

import argparse
import io
import pickletools
import struct
import sys
import textwrap
import zipfile

import ml_dtypes
import numpy as np
import pytest

from interop.files import FileError, torch_files
from interop.references import krasserm
from tests.interop.files import hostile

torch = pytest.importorskip("torch")

HYPER_PARAMETERS = {"num_latents": 4, "num_latent_channels": 16, "activation_checkpointing": False}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "linear.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "linear.bias": np.asfortranarray(rng.normal(size=(2, 3))),
        "half": np.arange(4, dtype=np.float16),
        "brain": np.arange(4, dtype=ml_dtypes.bfloat16),
        "count": np.array(3, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "mask": np.array([True, False]),
    }


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(path, changes, compression=zipfile.ZIP_STORED):
    """Writes the same archive with other contents, and with right checksums."""
    contents = members(path)
    root = next(iter(contents)).split("/")[0]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, changes.get(name.removeprefix(f"{root}/"), content))


def pickled(path):
    return next(content for name, content in members(path).items() if name.endswith("/data.pkl"))


@pytest.fixture
def tensor_file(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(4.0)}, path)
    return path


def test_a_written_file_is_read_back(tmp_path, arrays):
    torch_files.write(tmp_path / "a.pt", arrays)
    file = torch_files.read(tmp_path / "a.pt")
    same(file.tensors, arrays)
    assert file.rest == {}
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pt"]


def test_a_written_file_is_read_by_torch_itself(tmp_path, arrays):
    torch_files.write(tmp_path / "a.pt", arrays)
    tensors = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(tensors) == list(arrays)
    assert tensors["brain"].dtype is torch.bfloat16 and tensors["count"].shape == ()
    np.testing.assert_array_equal(tensors["linear.bias"].numpy(), arrays["linear.bias"])


def test_a_checkpoint_has_prefixes_and_a_rest(tmp_path, arrays):
    rest = {"epoch": 3, "nested": {"list": [1, (2.5, "text", None)]}}
    torch_files.write(tmp_path / "a.ckpt", arrays, rest, prefix="model.")
    file = torch_files.read(tmp_path / "a.ckpt")
    same(file.tensors, {f"model.{name}": array for name, array in arrays.items()})
    assert file.rest == rest


def test_arrays_of_another_byte_order_are_written(tmp_path):
    torch_files.write(tmp_path / "a.pt", {"w": np.arange(3, dtype=">f4")})
    same(torch_files.read(tmp_path / "a.pt").tensors, {"w": np.arange(3, dtype=np.float32)})


def test_an_array_that_torch_has_no_dtype_for_is_not_written(tmp_path):
    with pytest.raises(FileError, match="'w' is of <U1"):
        torch_files.write(tmp_path / "a.pt", {"w": np.array("a")})


def test_a_file_is_not_written_where_there_is_no_folder(tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        torch_files.write(tmp_path / "none" / "a.pt", {"w": np.ones(1)})


@pytest.mark.parametrize("wrapper", torch_files.WRAPPERS)
def test_the_state_dict_is_found(tmp_path, wrapper):
    torch.save({wrapper: {"w": torch.ones(2)}, "step": 7}, tmp_path / "a.pt")
    file = torch_files.read(tmp_path / "a.pt")
    same(file.tensors, {"w": np.ones(2, np.float32)})
    assert file.rest == {"step": 7}


@pytest.mark.parametrize("content", [{}, {"a": 1}, [1], {"model": {"w": 1}}, {3: torch.ones(1)}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    hostile.refused(torch_files.read, tmp_path / "a.pt", "expected a state dict", "torch.save(")


@pytest.mark.parametrize("zipped", [True, False])
def test_modules_views_and_optimisers_are_read(tmp_path, zipped):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).square().sum().backward()
    optimiser.step()
    state = model.state_dict()
    state["view"] = state["0.weight"].T[1:]
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    content = {"state_dict": state, "optimizer_states": [optimiser.state_dict()]}
    torch.save(
        content | {"size": torch.Size([2]), "dtype": torch.float32, "at": torch.device("cpu")},
        tmp_path / "a.ckpt",
        _use_new_zipfile_serialization=zipped,
    )
    file = torch_files.read(tmp_path / "a.ckpt")
    same(file.tensors, {name: tensor.detach().numpy() for name, tensor in state.items()})
    moments = file.rest["optimizer_states"][0]["state"][0]["exp_avg"]
    np.testing.assert_array_equal(moments, optimiser.state_dict()["state"][0]["exp_avg"].numpy())
    assert file.rest["size"] == (2,) and file.rest["dtype"] == "torch.float32"


@pytest.fixture
def lightning_checkpoint(tmp_path):
    """A checkpoint as Lightning lays it out, with the real package's config dataclasses."""
    backend = krasserm.backend()
    encoder = backend.ImageEncoderConfig(
        image_shape=(8, 8, 1), num_frequency_bands=4, num_self_attention_heads=2
    )
    decoder = backend.ClassificationDecoderConfig(num_classes=3, num_output_query_channels=16)
    content = {
        "epoch": 2,
        "global_step": 40,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": {"model.0.latent_provider._query": torch.ones(4, 16)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 2}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.ones(())}
        },
        "optimizer_states": [
            {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": 0.1}]}
        ],
        "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": 40}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"encoder": encoder, "decoder": decoder, **HYPER_PARAMETERS},
    }
    path = tmp_path / "lightning.ckpt"
    torch.save(content, path)
    return path


def test_lightnings_config_classes_are_read_as_records(lightning_checkpoint):
    file = torch_files.read(lightning_checkpoint)
    assert list(file.tensors) == ["model.0.latent_provider._query"]
    settings = file.rest["hyper_parameters"]
    encoder, decoder = settings.pop("encoder"), settings.pop("decoder")
    assert settings == HYPER_PARAMETERS
    module = "perceiver.model.vision.image_classifier.backend.ImageEncoderConfig"
    assert encoder[torch_files.CLASS] == module
    assert type(encoder) is dict and encoder["image_shape"] == (8, 8, 1)
    assert encoder["num_frequency_bands"] == 4 and encoder["dropout"] == 0.0
    config = "perceiver.model.core.config.ClassificationDecoderConfig"
    assert decoder[torch_files.CLASS] == config and decoder["num_classes"] == 3
    assert file.rest["global_step"] == 40


def test_lightnings_config_classes_need_not_be_installed(lightning_checkpoint, run_python):
    with pytest.raises(Exception, match="perceiver"):
        torch.load(lightning_checkpoint, weights_only=True)
    script = f"""
    import sys
    sys.modules["perceiver"] = None
    from interop.files import torch_files
    settings = torch_files.read({str(lightning_checkpoint)!r}).rest["hyper_parameters"]
    print(settings["encoder"]["image_shape"], settings["decoder"]["num_classes"])
    print(sorted(name for name in sys.modules if name.startswith("perceiver.")))
    """
    run = run_python(textwrap.dedent(script))
    assert "(8, 8, 1) 3\n[]" in getattr(run, "stdout", run)


def test_namespaces_and_lightnings_dicts_are_read(tmp_path):
    torch.save(
        {"model": {"w": torch.ones(1)}, "args": argparse.Namespace(a=[1])}, tmp_path / "a.pt"
    )
    rest = torch_files.read(tmp_path / "a.pt").rest
    assert rest == {"args": {torch_files.CLASS: "argparse.Namespace", "a": [1]}}
    name = b"clightning_fabric.utilities.data\nAttributeDict\n"
    content = pickled(tmp_path / "a.pt")
    start, end = content.index(b"cargparse"), content.index(b"b", content.index(b"K\1a"))
    attributes = name + b")\x81" + hostile.text("y") + b"K\2s"
    repacked(tmp_path / "a.pt", {"data.pkl": content[:start] + attributes + content[end + 1 :]})
    assert torch_files.read(tmp_path / "a.pt").rest == {"args": {"y": 2}}


@pytest.mark.parametrize(
    ("value", "refused"), [(b"K\7", None), (b"]", "a member of an enumeration"), (b"", "damaged")]
)
def test_members_of_enumerations_are_read_as_their_values(tmp_path, value, refused):
    torch.save(
        {"model": {"w": torch.ones(1)}, "args": argparse.Namespace(a=[1])}, tmp_path / "a.pt"
    )
    content = pickled(tmp_path / "a.pt")
    start, end = content.index(b"cargparse"), content.index(b"b", content.index(b"K\1a"))
    arguments = value + b"\x85" if value else b")"
    member = b"cperceiver.data.text.common\nTask\n" + arguments + b"R"
    repacked(tmp_path / "a.pt", {"data.pkl": content[:start] + member + content[end + 1 :]})
    if refused is None:
        assert torch_files.read(tmp_path / "a.pt").rest == {"args": 7}
    else:
        with pytest.raises(FileError, match=refused):
            torch_files.read(tmp_path / "a.pt")


@pytest.mark.parametrize("name", hostile.names())
def test_a_hostile_pickle_is_refused_and_runs_nothing(tensor_file, nothing_runs, name):
    repacked(tensor_file, {"data.pkl": hostile.pickles(nothing_runs)[name]})
    hostile.refused(torch_files.read, tensor_file)


@pytest.mark.parametrize("name", hostile.names()[:12])
def test_a_hostile_pickle_in_a_file_of_the_old_layout_runs_nothing(tmp_path, nothing_runs, name):
    path = tmp_path / "a.pt"
    torch.save({}, path, _use_new_zipfile_serialization=False)
    with path.open("rb") as file:
        for _ in range(3):
            list(pickletools.genops(file))
        end = file.tell()
    path.write_bytes(path.read_bytes()[:end] + hostile.pickles(nothing_runs)[name])
    hostile.refused(torch_files.read, path)


def test_a_class_that_is_not_on_the_list_is_named(tmp_path):
    content = {"state_dict": {"w": torch.ones(1)}, "path": FileError}
    torch.save(content, tmp_path / "a.ckpt")
    message = hostile.refused(torch_files.read, tmp_path / "a.ckpt", "'interop.files.FileError'")
    assert "torch.save(model.state_dict(), FILE)" in message


@pytest.mark.parametrize("value", [torch.ones(2).untyped_storage(), torch.nn.Parameter, torch.Size])
def test_a_value_that_is_not_plain_is_refused(tmp_path, value):
    torch.save({"model": {"w": torch.ones(1)}, "odd": value}, tmp_path / "a.pt")
    hostile.refused(torch_files.read, tmp_path / "a.pt")


def test_an_instance_of_a_record_has_nothing_of_its_class(tmp_path):
    torch.save({"model": {"w": torch.ones(1)}, "a": argparse.Namespace(b=1)}, tmp_path / "a.pt")
    content = pickled(tmp_path / "a.pt")
    odd = content.replace(b"X\1\0\0\0b", b"X\x0c\0\0\0__setstate__")
    repacked(tmp_path / "a.pt", {"data.pkl": odd})
    assert torch_files.read(tmp_path / "a.pt").rest["a"]["__setstate__"] == 1
    repacked(tmp_path / "a.pt", {"data.pkl": content.replace(b"K\1sb", b"K\1s\x85b")})
    hostile.refused(torch_files.read, tmp_path / "a.pt", "no dict of fields")


HUGE = b"\x8a\x06\0\0\0\0\0\1"


@pytest.mark.parametrize(
    "old, new",
    [
        (b"K\4tq", HUGE + b"tq"),
        (b"K\4tq", b"J\xff\xff\xff\xfftq"),
        (b"K\4tq", b"K\3tq"),
        (b"K\4\x85", HUGE + b"\x85"),
        (b"K\4\x85", b"K\5\x85"),
        (b"K\4\x85", b"J\xff\xff\xff\xff\x85"),
        (b"K\0K\4\x85", b"K\1K\4\x85"),
        (b"K\0K\4\x85", b"J\xfc\xff\xff\xffK\4\x85"),
        (b"K\1\x85", b"K\2\x85"),
        (b"K\1\x85", b"J\xff\xff\xff\xff\x85"),
        (b"K\1\x85", b"K\1K\1\x86"),
        (b"FloatStorage", b"DoubleStorage"),
        (b"FloatStorage", b"NoStorage"),
        (b"X\1\0\0\x000", b"X\1\0\0\x001"),
        (b"X\1\0\0\x000", b"X\4\0\0\x00../0"),
    ],
)
def test_sizes_that_disagree_are_refused(tensor_file, old, new):
    content = pickled(tensor_file)
    assert old in content
    repacked(tensor_file, {"data.pkl": content.replace(old, new, 1)})
    # By us: not every release of PyTorch looks.
    assert "PyTorch cannot read" not in hostile.refused(torch_files.read, tensor_file)


def test_a_stride_of_zero_is_refused(tmp_path):
    torch.save({"w": torch.ones(1).expand(1 << 40)}, tmp_path / "a.pt")
    hostile.refused(torch_files.read, tmp_path / "a.pt", "strides [0] in a storage of 1 element")


def test_one_storage_under_many_names_is_refused(tmp_path):
    tensor = torch.ones(10_000)
    torch.save({f"w{i}": tensor for i in range(200)}, tmp_path / "a.pt")
    hostile.refused(torch_files.read, tmp_path / "a.pt", "times the file")


def test_tied_tensors_are_read(tmp_path):
    tensor = torch.ones(100)
    torch.save({"a": tensor, "b": tensor}, tmp_path / "a.pt")
    assert set(torch_files.read(tmp_path / "a.pt").tensors) == {"a", "b"}


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_are_cut_off_are_refused(tmp_path, zipped):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(100)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        message = hostile.refused(torch_files.read, path)
        assert "PyTorch cannot read" not in message


def test_a_flipped_bit_in_the_weights_is_found(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(100)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<f", 1.0) * 100) + 41] ^= 1
    path.write_bytes(content)
    hostile.refused(torch_files.read, path, "data/0' is damaged", "CRC")


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(1 << 20)}, path)
    repacked(path, {}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 17
    hostile.refused(torch_files.read, path, "unpacked")


@pytest.mark.parametrize("content", [b"PK\3\4", b"PK\5\6" + bytes(18), b"hello", bytes(100)])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    hostile.refused(torch_files.read, tmp_path / "a.pt", torch_files.EXPECTED)


def test_a_program_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"a/{name}", b"x")
    (tmp_path / "a.pt").write_bytes(buffer.getvalue())
    hostile.refused(torch_files.read, tmp_path / "a.pt", "TorchScript")


def test_no_file_an_empty_one_or_a_folder_is_told(tmp_path):
    hostile.refused(torch_files.read, tmp_path / "none.pt", "no file")
    (tmp_path / "empty.pt").touch()
    hostile.refused(torch_files.read, tmp_path / "empty.pt", "empty")
    hostile.refused(torch_files.read, tmp_path, "folder")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_names_of_ruined_weights_are_told(tmp_path, value, dtype):
    weights = {"good": torch.ones(2), "bad": torch.tensor([1, value], dtype=getattr(torch, dtype))}
    torch.save(weights, tmp_path / "a.pt")
    message = hostile.refused(torch_files.read, tmp_path / "a.pt", "bad hold")
    assert "good" not in message


def test_without_torch_the_command_that_installs_it_is_named(tensor_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(FileError, match=r"pip install -c constraints.txt '\.\[torch\]'"):
        torch_files.read(tensor_file)
