import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.point_clouds.folders import find_files


@pytest.fixture
def modelnet(write):
    for name in ("sofa", "night_stand"):
        for split, number in (("train", 1), ("train", 2), ("test", 3)):
            write(f"{name}/{split}/{name}_{number:04}.off", b"")
    write("README.txt", b"")
    write("sofa/train/.DS_Store", b"")
    return write("sofa/train/notes.md", b"").parents[2]


@pytest.fixture
def resampled(write):
    write("modelnet40_shape_names.txt", b"vase\nnight_stand\n")
    write("modelnet40_train.txt", b"vase_0001\nnight_stand_0002\n")
    write("modelnet40_test.txt", b"night_stand_0001\n")
    for name in ("vase_0001", "night_stand_0001", "night_stand_0002"):
        path = write(f"{name[:-5]}/{name}.txt", b"")
    return path.parents[1]


def listed(found):
    return [(file.relative_to(found.root).as_posix(), label) for file, label in found.files]


def test_modelnet40_is_read_as_princeton_packs_it(modelnet):
    found = find_files("modelnet40", str(modelnet), "train")
    assert found.class_names == ("night_stand", "sofa")
    assert listed(found) == [
        ("night_stand/train/night_stand_0001.off", 0),
        ("night_stand/train/night_stand_0002.off", 0),
        ("sofa/train/sofa_0001.off", 1),
        ("sofa/train/sofa_0002.off", 1),
    ]
    test = find_files("modelnet40", str(modelnet), "test")
    assert [name for name, _ in listed(test)] == [
        "night_stand/test/night_stand_0003.off",
        "sofa/test/sofa_0003.off",
    ]


def test_resampled_clouds_are_those_of_the_lists(resampled):
    found = find_files("modelnet40_resampled", str(resampled), "train")
    assert found.class_names == ("night_stand", "vase")
    assert listed(found) == [("vase/vase_0001.txt", 1), ("night_stand/night_stand_0002.txt", 0)]
    test = find_files("modelnet40_resampled", str(resampled), "test")
    assert listed(test) == [("night_stand/night_stand_0001.txt", 0)]


def test_classes_of_folders_have_the_same_labels_in_every_split(write):
    for path in ("mine/b/1.npy", "mine/c/2.ply", "val/c/3.STL", "val/c/4.xyz", "val/c/5.jpg"):
        root = write(path, b"").parents[2]

    def found(split):
        return find_files("folders", str(root), split, train_split="mine")

    assert found("mine").class_names == found("val").class_names == ("b", "c")
    assert listed(found("mine")) == [("mine/b/1.npy", 0), ("mine/c/2.ply", 1)]
    assert listed(found("val")) == [("val/c/3.STL", 1), ("val/c/4.xyz", 1)]
    write("val/a/6.xyz", b"")
    with pytest.raises(DatasetError, match="has 'a', which 'mine' does not"):
        found("val")


@pytest.mark.parametrize("dataset", ["modelnet40", "modelnet40_resampled", "folders"])
def test_a_folder_is_asked_for(dataset, tmp_path):
    with pytest.raises(DatasetError, match="--config.data.data_dir"):
        find_files(dataset, None, "train")
    with pytest.raises(DatasetError, match="gone.*data_dir"):
        find_files(dataset, str(tmp_path / "gone"), "train")


@pytest.mark.parametrize("dataset", ["modelnet40", "modelnet40_resampled"])
def test_modelnet40_has_two_splits(dataset, tmp_path):
    with pytest.raises(DatasetError, match="'val'; there are train, test"):
        find_files(dataset, str(tmp_path), "val")


def test_a_folder_of_another_layout_is_an_error(tmp_path, write):
    with pytest.raises(DatasetError, match="no folders CLASS/train"):
        find_files("modelnet40", str(tmp_path), "train")
    with pytest.raises(DatasetError, match="modelnet40_shape_names.txt cannot be read"):
        find_files("modelnet40_resampled", str(tmp_path), "train")
    write("train/a/1.jpg", b"")
    with pytest.raises(DatasetError, match="has no folder 'test'; it has train"):
        find_files("folders", str(tmp_path), "test")
    with pytest.raises(DatasetError, match="no meshes or points: .* end in .npy, .obj, .off"):
        find_files("folders", str(tmp_path), "train")


def test_a_list_that_does_not_fit_the_files_is_an_error(resampled, write):
    (resampled / "vase" / "vase_0001.txt").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 files of split 'train' .*vase_0001.txt"):
        find_files("modelnet40_resampled", str(resampled), "train")
    write("modelnet40_train.txt", b"lamp_0001\n")
    with pytest.raises(DatasetError, match="'lamp_0001', of a class that is not in"):
        find_files("modelnet40_resampled", str(resampled), "train")


def test_a_class_without_a_test_split_shifts_no_label(modelnet, write):
    write("guitar/train/guitar_0001.off", b"")
    found = [find_files("modelnet40", str(modelnet), split) for split in ("train", "test")]
    assert found[0].class_names == found[1].class_names == ("guitar", "night_stand", "sofa")
    assert [label for _, label in found[1].files] == [1, 2]
