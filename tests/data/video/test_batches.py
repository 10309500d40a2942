"""Batches of clips: shapes, ranges, randomness, and what cannot be read."""

import dataclasses

import av
import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard
from perceiver_jax.data.video import (
    VideoDataConfig,
    VideoError,
    iterate_frames,
    open_videos,
    video_batches,
)
from perceiver_jax.data.video.reading import Clip
from perceiver_jax.data.video.videos import VideoFile
from tests.data.video.conftest import tone

CONFIG = VideoDataConfig(
    dataset="synthetic",
    batch_size=4,
    eval_batch_size=3,
    num_frames=4,
    frame_rate=10.0,
    image_size=(16, 24),
    num_samples=3_200,
    sample_rate=8_000,
    num_classes=4,
)
PLAIN = {"random_start": False, "random_crop": False, "random_flip": False}


def batches(config, training=True, seed=0, shard=Shard()):  # noqa: B008
    return video_batches(config, training=training, seed=seed, shard=shard)


def folder(tmp_path, **fields):
    return dataclasses.replace(
        CONFIG, dataset="folder", data_dir=str(tmp_path), eval_split="val", **fields
    )


@pytest.fixture
def kinetics(make_video, tmp_path):
    """Two classes of four files, heard by their pitch."""
    for label, name in enumerate(("archery", "baking")):
        made = make_video(sound=tone(200 * (label + 1), 2.0)).read_bytes()
        for split in ("train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4):
                (tmp_path / split / name / f"{i}.mp4").write_bytes(made)


def check(batch, size):
    assert batch["image"].shape == (size, 4, 16, 24, 3) and batch["image"].dtype == np.float32
    assert batch["audio"].shape == (size, 3_200, 1) and batch["audio"].dtype == np.float32
    assert batch["label"].shape == (size,) and batch["label"].dtype == np.int32
    assert batch["image"].min() >= 0 and 0.2 < batch["image"].max() <= 1
    assert 0.2 < np.abs(batch["audio"]).max() <= 1


def test_batches_have_frames_sound_and_labels():
    check(batches(CONFIG)[0], 4)
    evaluation = batches(CONFIG, training=False)
    assert len(evaluation) == 6
    check(evaluation[0], 3)
    assert evaluation[5]["mask"].tolist() == [True, False, False]
    labels = np.concatenate([batches(CONFIG)[i]["label"] for i in range(8)])
    assert set(labels.tolist()) <= set(range(4)) and len(set(labels.tolist())) > 1


def test_a_batch_is_a_function_of_seed_and_position(kinetics, tmp_path):
    for config in (CONFIG, folder(tmp_path)):
        for first, again in zip(*(batches(config)[3].values() for _ in range(2)), strict=True):
            np.testing.assert_array_equal(first, again)
        other = batches(config, seed=1)[3]
        assert not np.array_equal(batches(config)[3]["image"], other["image"])
        assert not np.array_equal(batches(config)[3]["audio"], other["audio"])


def test_processes_read_the_rows_of_one(kinetics, tmp_path):
    config = folder(tmp_path)
    whole = batches(config)[1]
    parts = [batches(config, shard=Shard(i, 2))[1] for i in range(2)]
    for name in whole:
        for i in range(2):
            np.testing.assert_array_equal(whole[name][i::2], parts[i][name])


def test_files_are_read_with_the_labels_of_their_folders(kinetics, tmp_path):
    config = folder(tmp_path)
    evaluation = batches(config, training=False)
    rows = [{k: v[i] for k, v in evaluation[b].items()} for b in range(3) for i in range(3)]
    assert [int(row["label"]) for row in rows if row["mask"]] == [0] * 4 + [1] * 4
    for row in rows[:8]:
        # Of two seconds, the middle: frames 8 to 11 of 20.
        shown = np.round(row["image"].mean(axis=(1, 2, 3)) * 255 / 8)
        assert shown.tolist() == [8, 9, 10, 11]
        spectrum = np.abs(np.fft.rfft(row["audio"][:, 0]))
        assert np.argmax(spectrum) / 0.4 == pytest.approx(200 * (row["label"] + 1), abs=3)
    assert open_videos(config, "train").class_names == ("archery", "baking")


class Spy:
    """A video that remembers which clips were asked for; half of a frame is white."""

    def __init__(self):
        self.asked = []

    def span(self):
        return 1.0, 3.4

    def clip(self, config, start_s, crop):
        self.asked.append((start_s, *crop))
        frames = np.zeros((config.num_frames, *config.image_size, 3), np.uint8)
        frames[:, :, : config.image_size[1] // 2] = 255
        return Clip(frames, np.zeros((config.num_samples, 1), np.float32), True)


def asked(monkeypatch, config, training=True):
    """(starts, crops, whether mirrored) of 200 clips."""
    spy = Spy()

    class Source:
        class_names = ("a",)

        def __len__(self):
            return 200

        def __getitem__(self, index):
            return {"video": spy, "label": 0}

    monkeypatch.setattr(
        "perceiver_jax.data.video.batches.open_videos", lambda config, split: Source()
    )
    batch = batches(dataclasses.replace(config, batch_size=200, eval_batch_size=200), training)[0]
    assert set(np.unique(batch["image"])) == {0.0, 1.0}
    starts, *crops = np.array(spy.asked).T
    return starts, np.array(crops), batch["image"][:, 0, 0, 0, 0] == 0


def test_training_draws_the_start_the_crop_and_the_side(monkeypatch):
    starts, crops, mirrored = asked(monkeypatch, CONFIG)
    assert 1.0 <= starts.min() < 1.1 and 2.9 < starts.max() <= 3.0
    assert crops.min() < 0.1 and crops.max() > 0.9 and not np.array_equal(*crops)
    assert 60 < mirrored.sum() < 140


def test_each_choice_can_be_switched_off_and_leaves_the_others_alone(monkeypatch):
    every = asked(monkeypatch, CONFIG)
    middle = (2.0, 0.5, False)
    for i, name in enumerate(PLAIN):
        some = asked(monkeypatch, dataclasses.replace(CONFIG, **{name: False}))
        for j, (drawn, others) in enumerate(zip(some, every, strict=True)):
            np.testing.assert_allclose(drawn, np.full_like(others, middle[j]) if i == j else others)


def test_evaluation_takes_the_middle(monkeypatch):
    starts, crops, mirrored = asked(monkeypatch, CONFIG, training=False)
    assert np.allclose(starts, 2.0) and np.allclose(crops, 0.5) and not mirrored.any()


def test_clips_may_be_of_a_part_of_a_file(make_video):
    video = VideoFile(make_video(num_frames=20), part=(0.5, 1.2))
    assert video.span() == (0.5, 1.2)
    assert VideoFile(video.path).span() == (0.0, pytest.approx(2.0))
    clip = video.clip(CONFIG, 0.5, (0.5, 0.5))
    assert clip.frames.shape == (4, 16, 24, 3) and clip.sound.shape == (3_200, 1)


def test_files_that_cannot_be_used_are_named_when_they_are_read(make_video, tmp_path):
    for i in range(4):
        make_video(f"train/a/{i}.mp4", num_frames=3)
    with pytest.raises(VideoError, match=r"\d.mp4 is 0.30 s long, but 4 frames at 10 a second"):
        batches(folder(tmp_path))[0]
    for file in tmp_path.rglob("*.mp4"):
        file.write_bytes(b"nothing")
    open_videos.cache_clear()
    with pytest.raises(VideoError, match=r"\d.mp4 cannot be read as a video"):
        batches(folder(tmp_path))[0]


@pytest.fixture
def overstated(mux, tmp_path):
    """A function that makes a file of 8 frames, whose header says that it has 40."""

    def make(num_frames=8):
        path = mux("whole.mp4", range(40), codec="mpeg4", options={"movflags": "+faststart"})
        with av.open(str(path)) as file:
            ends = [packet.pos + packet.size for packet in file.demux(video=0) if packet.size]
        (tmp_path / "train").mkdir()
        whole = path.read_bytes()
        (tmp_path / "train" / "a.mp4").write_bytes(whole[: sorted(ends)[num_frames - 1]])
        path.unlink()
        return tmp_path / "train" / "a.mp4"

    return make


def first_frames(config, num_batches):
    images = np.concatenate([batches(config)[i]["image"] for i in range(num_batches)])
    return np.round(images[:, 0].mean(axis=(1, 2, 3)) * 255 / 8).astype(int).tolist()


def test_a_file_that_promises_more_than_it_has_gives_clips_of_what_there_is(overstated, tmp_path):
    path = overstated()
    assert VideoFile(path).span() == (0.0, pytest.approx(4.0))
    assert len([*iterate_frames(path)]) == 8
    drawn = first_frames(folder(tmp_path, batch_size=1), 40)
    assert set(drawn) - {4} == {0, 1, 2, 3}
    # Frames 2 to 5 are the middle of 8.
    assert first_frames(folder(tmp_path, batch_size=1, random_start=False), 1) == [2]


def test_what_there_is_of_a_file_may_be_too_short(overstated, tmp_path):
    overstated(num_frames=3)
    with pytest.raises(VideoError, match=r"a.mp4 is damaged: its frames end at 0.30 s of 4.00 s"):
        batches(folder(tmp_path, batch_size=1))[0]


def test_datasets_that_are_not_there_are_named(kinetics, tmp_path):
    with pytest.raises(ValueError, match="dataset='movies' is none of 'folder', 'bunny', 'synt"):
        batches(dataclasses.replace(CONFIG, dataset="movies"))
    with pytest.raises(DatasetError, match="needs a folder; name it: --config.data.data_dir"):
        batches(dataclasses.replace(CONFIG, dataset="folder"))
    with pytest.raises(DatasetError, match="has 2 classes; raise --config.data.num_classes"):
        batches(folder(tmp_path, num_classes=1))
