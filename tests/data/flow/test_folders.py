"""Datasets in folders: toy ones in the layouts of the real ones."""

import cv2
import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.flow import write_flow
from perceiver_jax.data.flow.folders import SINTEL_VAL, open_folder
from perceiver_jax.errors import UserError


@pytest.fixture
def make_flow(tmp_path):
    """A function that writes flow below tmp_path, all of it `value`."""

    def make(path, value=1.0, valid=None):
        write_flow(tmp_path / path, np.full((20, 30, 2), value, np.float32), valid)

    return make


@pytest.fixture
def sintel(make_picture, make_flow):
    """Two scenes to train on and one held out, of three frames each."""
    for i, scene in enumerate(("alley_1", "cave_4", "market_2")):
        for frame in (1, 2, 3):
            for j, frame_pass in enumerate(("clean", "final")):
                seed = 100 * i + 10 * frame + j
                make_picture(f"training/{frame_pass}/{scene}/frame_{frame:04}.png", seed=seed)
            if frame < 3:
                make_flow(f"training/flow/{scene}/frame_{frame:04}.flo", 10 * i + frame)


@pytest.fixture
def kitti(make_picture, make_flow):
    for i in (0, 7, 159, 160, 199):
        for j in (10, 11):
            make_picture(f"training/image_2/{i:06}_{j}.png", seed=100 * i + j)
        make_flow(f"training/flow_occ/{i:06}_10.png", float(i), np.arange(600).reshape(20, 30) > i)
        make_flow(f"training/flow_noc/{i:06}_10.png", 300.0)


@pytest.fixture
def chairs(make_picture, make_flow, tmp_path):
    for i in (1, 2, 3, 4):
        for j in (1, 2):
            make_picture(f"data/{i:05}_img{j}.ppm", seed=10 * i + j)
        make_flow(f"data/{i:05}_flow.flo", float(i))
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n1\n")


@pytest.fixture
def things(make_picture, make_flow):
    for part in ("TRAIN", "TEST"):
        for side in ("left", "right"):
            scene = f"{part}/B/0003"
            for i in (6, 7, 8):
                seed = 10 * i + (side == "right")
                make_picture(f"frames_finalpass/{scene}/{side}/{i:04}.png", seed=seed)
                for k, direction in enumerate(("Future", "Past")):
                    name = f"OpticalFlowInto{direction}_{i:04}_{side[0].upper()}.pfm"
                    folder = f"optical_flow/{scene}/into_{direction.lower()}/{side}"
                    make_flow(f"{folder}/{name}", 100.0 * k + i)


def values(source):
    return [source[i]["flow"][-1, -1, 0] for i in range(len(source))]


def picture(path):
    return cv2.imread(str(path))[..., ::-1]


def test_pairs_of_sintel_are_frames_one_after_the_other(sintel, tmp_path):
    train = open_folder("sintel", str(tmp_path), "train", "final")
    assert values(train) == [1, 2, 21, 22]
    folder = tmp_path / "training" / "final" / "alley_1"
    pair = train[1]
    np.testing.assert_array_equal(pair["frames"][0], picture(folder / "frame_0002.png"))
    np.testing.assert_array_equal(pair["frames"][1], picture(folder / "frame_0003.png"))
    assert pair["flow"].dtype == np.float32 and pair["valid"].all()
    clean = open_folder("sintel", str(tmp_path), "train", "clean")
    assert (clean[1]["frames"] != pair["frames"]).any()


def test_scenes_of_sintel_are_held_out_as_a_whole(sintel, tmp_path):
    assert values(open_folder("sintel", str(tmp_path), "val", "clean")) == [11, 12]
    assert values(open_folder("sintel", str(tmp_path), "all", "clean")) == [1, 2, 11, 12, 21, 22]
    assert len(set(SINTEL_VAL)) == 6


def test_invalid_pixels_of_sintel_are_not_valid(sintel, tmp_path):
    for scene in ("alley_1", "cave_4", "market_2"):
        for frame in (1, 2):
            invalid = np.zeros((20, 30), np.uint8)
            invalid[frame, :5] = 255
            path = tmp_path / "training" / "invalid" / scene / f"frame_{frame:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), invalid)
    pair = open_folder("sintel", str(tmp_path), "train", "clean")[1]
    want = np.ones((20, 30), bool)
    want[2, :5] = False
    np.testing.assert_array_equal(pair["valid"], want)
    np.testing.assert_array_equal(pair["flow"][..., 0], 2.0 * want)
    path.unlink()
    with pytest.raises(DatasetError, match=r"market_2/frame_0002.png is not there; unpack 'sintel"):
        open_folder("sintel", str(tmp_path), "train", "clean")


def test_kitti_is_split_by_number_and_its_flow_is_sparse(kitti, tmp_path):
    assert values(open_folder("kitti2015", str(tmp_path), "train", "clean")) == [0, 7, 159]
    held_out = open_folder("kitti2015", str(tmp_path), "val", "clean")
    assert values(held_out) == [160, 199]
    assert len(open_folder("kitti2015", str(tmp_path), "all", "clean")) == 5
    assert held_out[0]["valid"].sum() == 600 - 161
    folder = tmp_path / "training" / "image_2"
    for frame, time in zip(held_out[1]["frames"], (10, 11), strict=True):
        np.testing.assert_array_equal(frame, picture(folder / f"000199_{time}.png"))


@pytest.mark.parametrize("folder", ["", "data"])
def test_chairs_are_split_by_their_list(chairs, tmp_path, folder):
    name = "FlyingChairs_train_val.txt"
    (tmp_path / name).rename(tmp_path / folder / name)
    assert values(open_folder("flying_chairs", str(tmp_path), "train", "clean")) == [1, 3, 4]
    held_out = open_folder("flying_chairs", str(tmp_path), "val", "clean")
    assert values(held_out) == [2]
    for frame, name in zip(held_out[0]["frames"], ("img1", "img2"), strict=True):
        np.testing.assert_array_equal(frame, picture(tmp_path / "data" / f"00002_{name}.ppm"))


def test_all_chairs_need_no_list_and_splits_do(chairs, tmp_path):
    path = tmp_path / "FlyingChairs_train_val.txt"
    for wrong in ("1\n2\n1\n", "1\n2\n1\n3\n", ""):
        path.write_text(wrong)
        with pytest.raises(DatasetError, match="should have a line of 1 or 2 for each of 4 pairs"):
            open_folder("flying_chairs", str(tmp_path), "train", "clean")
    path.unlink()
    with pytest.raises(DatasetError, match="train_val.txt is not there.*or take split 'all'"):
        open_folder("flying_chairs", str(tmp_path), "train", "clean")
    assert len(open_folder("flying_chairs", str(tmp_path), "all", "clean")) == 4


def test_things_move_in_both_directions_and_for_both_eyes(things, tmp_path):
    source = open_folder("flying_things", str(tmp_path), "train", "final")
    # Future of 6 and 7, past of 7 and 8; of the left eye, then of the right one.
    assert values(source) == [6, 7, 6, 7, 107, 108, 107, 108]
    folder = tmp_path / "frames_finalpass" / "TRAIN" / "B" / "0003"
    for index, side, first, second in ((1, "left", 7, 8), (6, "right", 7, 6)):
        for frame, number in zip(source[index]["frames"], (first, second), strict=True):
            np.testing.assert_array_equal(frame, picture(folder / side / f"{number:04}.png"))
    assert len(open_folder("flying_things", str(tmp_path), "val", "final")) == 8
    assert len(open_folder("flying_things", str(tmp_path), "all", "final")) == 16
    with pytest.raises(DatasetError, match="frames_cleanpass/.* cannot be listed"):
        open_folder("flying_things", str(tmp_path), "train", "clean")


@pytest.mark.parametrize(
    ("dataset", "missing"),
    [
        ("sintel", "training/clean/alley_1/frame_0003.png"),
        ("kitti2015", "training/image_2/000007_11.png"),
        ("flying_chairs", "data/00003_img2.ppm"),
        ("flying_things", "frames_finalpass/TRAIN/B/0003/right/0007.png"),
    ],
)
def test_a_missing_file_is_named_when_the_split_is_opened(
    sintel, kitti, chairs, things, tmp_path, dataset, missing
):
    (tmp_path / missing).unlink()
    frame_pass = "final" if dataset == "flying_things" else "clean"
    with pytest.raises(DatasetError, match=f"{missing} is not there; unpack '{dataset}' again"):
        open_folder(dataset, str(tmp_path), "train", frame_pass)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("sintel", "training/flow .*is to be the folder of 'sintel' with training/clean"),
        ("kitti2015", "training/flow_occ .*'kitti2015' with training/image_2"),
        ("flying_chairs", "data .*'flying_chairs' with data/00001_img1.ppm"),
        ("flying_things", "optical_flow/TRAIN .*'flying_things' with frames_cleanpass"),
    ],
)
def test_another_folder_is_answered_with_the_layout(tmp_path, dataset, message):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(DatasetError, match=message):
            open_folder(dataset, str(path), "train", "clean")


def test_a_split_that_is_unknown_or_empty_is_an_error(kitti, tmp_path):
    with pytest.raises(DatasetError, match="no split is called 'test'; there are train, val, all"):
        open_folder("kitti2015", str(tmp_path), "test", "clean")
    for file in (tmp_path / "training" / "flow_occ").glob("0001*.png"):
        file.unlink()
    with pytest.raises(
        DatasetError, match="no pair of split 'val' of 'kitti2015'; expected .*data_dir"
    ):
        open_folder("kitti2015", str(tmp_path), "val", "clean")


def test_hidden_files_are_left_alone(sintel, tmp_path):
    (tmp_path / "training" / "flow" / ".DS_Store").write_bytes(b"")
    (tmp_path / "training" / "flow" / "alley_1" / "._frame_0001.flo").write_bytes(b"")
    assert len(open_folder("sintel", str(tmp_path), "train", "clean")) == 4


def test_frames_and_flow_of_different_sizes_are_an_error(sintel, make_picture, tmp_path):
    make_picture("training/clean/alley_1/frame_0002.png", height=18)
    source = open_folder("sintel", str(tmp_path), "train", "clean")
    with pytest.raises(DatasetError, match=r"\(20, 30\), \(18, 30\) and \(20, 30\)"):
        source[0]


def test_a_damaged_file_is_named(sintel, tmp_path):
    path = tmp_path / "training" / "flow" / "alley_1" / "frame_0001.flo"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="alley_1/frame_0001.flo is not a readable flow file"):
        open_folder("sintel", str(tmp_path), "train", "clean")[0]


def test_a_folder_may_lie_at_home(kitti, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert len(open_folder("kitti2015", f"~/{tmp_path.name}", "all", "clean")) == 5
