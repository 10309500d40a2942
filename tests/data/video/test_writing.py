"""Video files out of frames and sound, whole or not at all."""

import av
import numpy as np
import pytest

from perceiver_jax.data.video import VideoError, iterate_frames, probe, read_clip, write_video
from tests.data.video.conftest import grey, numbers, tone


def frames(num_frames=5):
    return [grey(i) for i in range(num_frames)]


def test_the_file_is_what_every_player_shows(tmp_path):
    path = tmp_path / "a" / "b.mp4"
    assert write_video(path, frames(), 29.97, tone(440, 0.2)) == path
    with av.open(str(path)) as file:
        (video,), (track,) = file.streams.video, file.streams.audio
        assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
        assert (video.colorspace, video.color_primaries, video.color_trc, video.color_range) == (
            1, 1, 1, 1,
        )  # fmt: skip
        assert float(video.average_rate) == pytest.approx(29.97)
        assert (track.codec_context.name, track.rate, track.layout.name) == ("aac", 48_000, "mono")
        assert track.duration == pytest.approx(0.2 * 48_000, abs=1024)
    assert [x.name for x in path.parent.iterdir()] == ["b.mp4"]


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (1, 1)])
def test_odd_sizes_get_their_last_row_or_column_twice(tmp_path, size):
    ramp = np.repeat(np.linspace(0, 250, size[1]).astype(np.uint8)[None, :, None], size[0], axis=0)
    picture = np.repeat(ramp, 3, axis=2)
    path = write_video(tmp_path / "a.mp4", [picture] * 2, 10)
    (_, read), _ = iterate_frames(path)
    height, width = size
    assert read.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(read[:height, :width].astype(int) - picture).max() < 10
    assert np.abs(read[-1, :width].astype(int) - picture[-1]).max() < 10
    assert np.abs(read[:height, -1].astype(int) - picture[:, -1]).max() < 10


def test_frames_are_taken_one_by_one(tmp_path):
    taken = []

    def watched():
        for i in range(200):
            taken.append(sum(x.stat().st_size for x in tmp_path.iterdir()))
            yield np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)

    path = write_video(tmp_path / "a.mp4", watched(), 25, tone(440, 8.0))
    # What is encoded is on the disk long before the last frame comes.
    assert taken[-1] > path.stat().st_size / 3
    assert probe(path).seconds == pytest.approx(8.0)


def test_sound_may_be_longer_or_shorter_than_the_frames(tmp_path):
    for seconds in (0.05, 3.0):
        path = write_video(tmp_path / "a.mp4", frames(20), 10, tone(440, seconds)[:, None])
        with av.open(str(path)) as file:
            (track,) = file.streams.audio
            assert track.duration / 48_000 == pytest.approx(seconds, abs=0.03)
        assert probe(path).seconds == pytest.approx(2.0)


def test_sound_beyond_full_scale_is_cut_off(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames(20), 10, tone(100, 2.0, loudness=5.0))
    clip = read_clip(path, num_frames=1, frame_rate=1, image_size=(8, 8), num_samples=48_000)
    assert np.median(np.abs(clip.sound)) == pytest.approx(1.0, abs=0.1)


def test_an_error_in_the_middle_leaves_what_was_there(tmp_path):
    def breaking():
        for i in range(100):  # enough for some of them to be in the file
            yield np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
        assert len(list(tmp_path.iterdir())) == 2
        raise OSError("no more frames")

    path = write_video(tmp_path / "a.mp4", frames(4), 10)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no more frames"):
        write_video(path, breaking(), 10)
    assert path.read_bytes() == before
    write_video(path, frames(2), 10)
    assert numbers(x for _, x in iterate_frames(path)) == [0, 1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"frames": []}, "there are no frames"),
        ({"frames": [grey(0)[..., 0]]}, r"frame 0 has the shape \[48, 64\] and the type uint8"),
        ({"frames": [grey(0) / 255]}, "frame 0 has the shape .* type float64; expected"),
        ({"frames": [grey(0), grey(1, (48, 66))]}, r"frame 1 has .*\[48, 66, 3\], and frame 0"),
        ({"frame_rate": 0.0}, "frame_rate=0.0 is not from 0.01 to 1000"),
        ({"frame_rate": float("nan")}, "frame_rate=nan is not from"),
        ({"sound": np.zeros((5, 2))}, r"sound of shape \[5, 2\] and type float64"),
        ({"sound": np.zeros(5, np.int16)}, r"sound of shape \[5\] and type int16"),
        ({"sound": np.full(5, np.nan)}, "expected finite floats"),
        ({"sound": np.zeros(0)}, "at least one"),
        ({"sound": np.zeros(5), "sample_rate": 47_999}, "sample_rate=47999 is none of AAC's"),
        ({"path": "a.avi"}, "a.avi does not end in .mp4"),
        ({"path": "file/a.mp4"}, "file/a.mp4 cannot be written: .*; choose another place"),
    ],
)
def test_mistakes_are_named_and_nothing_is_left(tmp_path, wrong, match):
    (tmp_path / "file").write_bytes(b"")
    arguments = {"path": "a.mp4", "frames": frames(), "frame_rate": 10} | wrong
    with pytest.raises(VideoError, match=match):
        write_video(**(arguments | {"path": tmp_path / arguments["path"]}))
    assert [x.name for x in tmp_path.iterdir()] == ["file"]
