"""Files in folders of classes: labels mean the same in every split, and nothing is left unsaid."""

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.class_folders import find_class_files


@pytest.fixture
def root(tmp_path):
    for name in (
        "train/dog/b.txt",
        "train/dog/a.TXT",
        "train/cat/c.text",
        "train/dog/.hidden.txt",
        "train/dog/notes.md",
        "train/notes/only.md",
        "train/.git/d.txt",
        "train/owl/d.txt",
        "test/owl/e.txt",
        "backup/fox/f.txt",
        "readme.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "train" / "dog" / "folder.txt").mkdir()
    return tmp_path


def find(root, split, train_split="train"):
    return find_class_files(
        root, split, train_split=train_split, suffixes=(".txt", ".text"), kind="texts"
    )


def test_folders_with_such_files_are_classes(root):
    class_names, files = find(root, "train")
    assert class_names == ("cat", "dog", "owl")
    folder = root / "train"
    assert files == [
        (str(folder / "cat" / "c.text"), 0),
        (str(folder / "dog" / "a.TXT"), 1),
        (str(folder / "dog" / "b.txt"), 1),
        (str(folder / "owl" / "d.txt"), 2),
    ]


def test_labels_are_the_same_in_every_split(root):
    found = find(root, "test")
    assert found.class_names == find(root, "train").class_names
    assert [label for _, label in found.files] == [2]


def test_classes_that_training_does_not_have_are_refused(root):
    (root / "test" / "eel").mkdir()
    assert find(root, "test").class_names == ("cat", "dog", "owl")
    (root / "test" / "eel" / "e.txt").write_text("x")
    with pytest.raises(DatasetError, match="'test' of .* has 'eel', which 'train' does not, so"):
        find(root, "test")
    assert find(root, "train").class_names == ("cat", "dog", "owl")


def test_without_a_training_split_classes_are_those_of_the_split_itself(root):
    found = find(root, "test", train_split="elsewhere")
    assert found.class_names == ("owl",) and [label for _, label in found.files] == [0]


def test_a_split_that_is_not_there_is_answered_with_those_there_are(root):
    with pytest.raises(DatasetError, match="no folder 'val'; it has backup, test, train; exp"):
        find(root, "val")
    with pytest.raises(DatasetError, match="no folder 'val'; it has none"):
        find(root / "test" / "owl", "val")
    with pytest.raises(DatasetError, match="there is no folder .*gone; expected DIR/SPLIT/CLASS/"):
        find(root / "gone", "train")


def test_files_of_no_class_are_named(root):
    (root / "train" / "loose.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"loose\.txt is of no class; move it into a folder"):
        find(root, "train")


def test_a_split_without_files_is_refused(root):
    (root / "val" / "dog").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"val has no texts: .* end in \.txt, \.text"):
        find(root, "val")
