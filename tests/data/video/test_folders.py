"""Video files in folders: classes, splits, and what is missing."""

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.video.folders import VideoFolder


@pytest.fixture
def touch(tmp_path):
    """A function that makes empty files below tmp_path."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return str(tmp_path)

    return make


def listed(folder):
    return [(folder[i]["video"].path.name, folder[i]["label"]) for i in range(len(folder))]


def test_labels_are_by_the_sorted_names_of_the_classes_of_all_folders(touch):
    path = touch(
        "train/playing a flute/b.mp4",
        "train/playing a flute/a.mp4",
        "train/Archery/c.MP4",
        "val/playing a flute/d.webm",
        "val/only here/e.mkv",
        "test/playing a flute/f.mp4",
        "elsewhere/another class/g.mp4",
    )
    train, val, test = (VideoFolder(path, split) for split in ("train", "val", "test"))
    names = ("Archery", "another class", "only here", "playing a flute")
    assert train.class_names == val.class_names == test.class_names == names
    assert listed(train) == [("c.MP4", 0), ("a.mp4", 3), ("b.mp4", 3)]
    assert listed(val) == [("e.mkv", 2), ("d.webm", 3)]
    assert listed(test) == [("f.mp4", 3)]


def test_other_and_hidden_files_are_left_out(touch):
    path = touch(
        "train/a/b.mp4", "train/a/b.txt", "train/a/.c.mp4", "train/.d/e.mp4", "train/labels.csv"
    )
    folder = VideoFolder(path, "train")
    assert listed(folder) == [("b.mp4", 0)] and folder.class_names == ("a",)


def test_a_split_may_have_no_classes(touch):
    path = touch("mine/b.mp4", "mine/a.mov")
    folder = VideoFolder(path, "mine")
    assert listed(folder) == [("a.mov", 0), ("b.mp4", 0)] and folder.class_names == ()


def test_of_a_folder_of_files_a_tenth_is_held_out_by_name(touch):
    names = [f"{i:03}.mp4" for i in range(200)]
    path = touch(*names)
    train, test = ([x for x, _ in listed(VideoFolder(path, s))] for s in ("train", "test"))
    assert sorted(train + test) == names and 8 < len(test) < 35
    assert [x for x, _ in listed(VideoFolder(path, "all"))] == names
    touch("later.mp4")
    assert set(train) <= {x for x, _ in listed(VideoFolder(path, "train"))}


def test_what_is_not_there_is_named(touch, tmp_path):
    with pytest.raises(DatasetError, match="absent' is no folder"):
        VideoFolder(tmp_path / "absent", "train")
    with pytest.raises(DatasetError, match="has no folder 'train' and no videos; it has nothing"):
        VideoFolder(tmp_path, "train")
    path = touch("val/a/b.mp4", "dev/a/b.txt")
    with pytest.raises(DatasetError, match="has no folder 'train' and no videos; it has dev, val"):
        VideoFolder(path, "train")
    with pytest.raises(
        DatasetError, match="dev has no videos: no files that end in .avi, .*; put them there"
    ):
        VideoFolder(path, "dev")
    touch("val/loose.mp4")
    with pytest.raises(DatasetError, match="has classes, such as 'a', and files of none, such as"):
        VideoFolder(path, "val")


def test_a_folder_of_files_has_few_splits(touch):
    path = touch("a.mp4")
    with pytest.raises(DatasetError, match="no folder 'val'.*splits train, test and all"):
        VideoFolder(path, "val")
    with pytest.raises(DatasetError, match="none of the 1 videos in .* is of split '(train|test)'"):
        [VideoFolder(path, split) for split in ("train", "test")]


def test_labels_are_the_same_in_splits_of_any_name(tmp_path):
    for split, classes in (("train256", "abc"), ("held-out", "bc")):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "x.mp4").touch()
    (tmp_path / "annotations" / "d").mkdir(parents=True)
    labels = {}
    for split in ("train256", "held-out"):
        folder = VideoFolder(tmp_path, split)
        assert folder.class_names == ("a", "b", "c")
        labels[split] = [folder[i]["label"] for i in range(len(folder))]
    assert labels == {"train256": [0, 1, 2], "held-out": [1, 2]}
