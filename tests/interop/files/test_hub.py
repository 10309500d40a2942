"""Where a model's files are found: paths, the hub's cache without network, and clear errors."""

import sys

import pytest

from interop.files import FileError, hub

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = ("config.json", "model.safetensors", "model-*.safetensors")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A hub cache with one model in it, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = tmp_path / "hub"
    repository = folder / "models--somebody--tiny-perceiver"
    snapshot, blobs = repository / "snapshots" / REVISION, repository / "blobs"
    for path in (snapshot, blobs, repository / "refs"):
        path.mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    for number, name in enumerate(("config.json", "model.safetensors")):
        (blobs / f"{number}").write_text(name)
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_path_is_itself(tmp_path):
    assert hub.locate(str(tmp_path), FILES) == tmp_path
    (tmp_path / "a.pt").touch()
    assert hub.locate(str(tmp_path / "a.pt"), FILES) == tmp_path / "a.pt"


def test_a_model_is_found_in_the_cache_without_network(cache):
    folder = hub.locate("somebody/tiny-perceiver", FILES)
    assert folder == cache
    assert (folder / "config.json").read_text() == "config.json"


def test_a_model_is_found_in_the_cache_that_the_environment_names(cache, run_python):
    code = """
    from interop.files import hub
    print(hub.locate("somebody/tiny-perceiver", ["config.json"]))
    """
    folder = str(cache.parents[2])
    assert run_python(code, HF_HUB_CACHE=folder, HF_HUB_OFFLINE="1").strip() == str(cache)


def test_a_local_path_comes_before_the_hub(cache, tmp_path, monkeypatch):
    (tmp_path / "somebody" / "tiny-perceiver").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = hub.locate("somebody/tiny-perceiver", FILES)
    assert found.resolve() == tmp_path / "somebody" / "tiny-perceiver"


def test_a_model_that_is_not_in_the_cache_is_named(cache):
    with pytest.raises(
        FileError, match=r"somebody/else.*not in this machine's cache.*local folder"
    ):
        hub.locate("somebody/else", FILES)


@pytest.mark.parametrize(
    "source", ["none.ckpt", "/none/none", "../none/none", "a/b/c", "a/../b", "owner/", "", "~/none"]
)
def test_what_is_neither_path_nor_id_is_refused(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileError, match="no such file or folder: .*owner/name"):
        hub.locate(source, FILES)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileError, match=r"somebody/model.*pip install -c .* '\.\[hub\]'"):
        hub.locate("somebody/model", FILES)
