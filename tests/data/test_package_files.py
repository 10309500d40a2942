"""Files of packages are taken as they should be, or not at all."""

import io
import zipfile

import pytest

from perceiver_jax.data.package_files import check_archive, digest, installed, keep, wheel_members
from perceiver_jax.data.sources import DatasetError

CAT = "77af778b51abd4a3c51c5ddd97204a9c3ae614ebccb75a606c3b6865aed6744e"
"""What `printf cat | sha256sum` prints."""


def test_an_archive_is_known_by_its_contents():
    check_archive(b"cat", name="cat.whl", sha256=CAT)
    with pytest.raises(DatasetError, match=f"SHA-256 [0-9a-f]{{64}}, not {CAT}: it is not cat.whl"):
        check_archive(b"dog", name="cat.whl", sha256=CAT)


@pytest.fixture
def wheel():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("a/x", "a/y", "z"):
            archive.writestr(name, f"in {name}")
    return packed.getvalue()


def test_the_asked_files_of_a_wheel_are_read_alone(wheel):
    assert wheel_members(wheel, iter(["z", "a/x"]), name="w") == {"z": b"in z", "a/x": b"in a/x"}
    with pytest.raises(DatasetError, match="w has no file a/n; nothing was written"):
        wheel_members(wheel, ["z", "a/o", "a/n"], name="w")


def test_a_file_is_kept_in_folders_made_for_it_or_the_remedy_is_told(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    keep(path, b"cat")
    assert path.read_bytes() == b"cat"
    with pytest.raises(DatasetError, match="cannot be written: .*; choose --data_dir"):
        keep(path / "below_a_file", b"dog")


def test_a_file_of_an_installed_package_is_read_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "package_of_cats"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "cat.txt").write_bytes(b"cat")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert digest(b"cat") == CAT
    assert installed("package_of_cats", "cat.txt", CAT) == b"cat"
    assert installed("package_of_cats", "cat.txt", "0" * 64) is None
    assert installed("package_of_cats", "dog.txt", CAT) is None
    assert installed("package_of_dogs", "cat.txt", CAT) is None
    (tmp_path / "one_module.py").write_text("raise SystemExit")
    assert installed("one_module", "cat.txt", CAT) is None
