"""Frames by their times, what is cut out of them, and what a file is."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from perceiver_jax.data.video import VideoError, iterate_frames, probe, read_clip, write_video
from perceiver_jax.data.video.frames import fit, frames_from
from tests.data.video.conftest import SIZE, grey, level, numbers, tone


def clip(path, start_s=0.0, num_frames=4, frame_rate=10.0, image_size=SIZE, **arguments):
    return read_clip(
        path,
        start_s=start_s,
        num_frames=num_frames,
        frame_rate=frame_rate,
        image_size=image_size,
        **arguments,
    )


def test_frames_come_back_in_order_with_their_times(make_video):
    times, frames = zip(*iterate_frames(make_video(num_frames=12)), strict=True)
    np.testing.assert_allclose(times, np.arange(12) / 10, atol=1e-6)
    assert numbers(frames) == list(range(12))
    for i, frame in enumerate(frames):
        assert frame.shape == (*SIZE, 3) and frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - level(i)).max() <= 3


def test_frames_of_a_clip_are_those_on_the_screen_at_their_times(make_video):
    path = make_video(num_frames=20)
    assert numbers(clip(path).frames) == [0, 1, 2, 3]
    assert numbers(clip(path, 0.35).frames) == [3, 4, 5, 6]
    assert numbers(clip(path, 0.3, frame_rate=5).frames) == [3, 5, 7, 9]
    assert numbers(clip(path, 0.3, frame_rate=20).frames) == [3, 3, 4, 4]
    assert numbers(clip(path, 1.6).frames) == [16, 17, 18, 19]
    assert numbers(clip(path, 1.9, 1).frames) == [19]
    # Just before a frame's time, as sums of floats are, it is meant all the same.
    assert numbers(clip(path, 0.7 - 1e-9, 1).frames) == [7]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_variable_frame_rates_are_read_by_time_stamps(mux, name):
    stamps = [0, 1, 2, 7, 8, 15, 16, 17]
    path = mux(name, stamps, codec="libvpx" if name == "a.webm" else "libx264")
    np.testing.assert_allclose([t for t, _ in iterate_frames(path)], np.array(stamps) / 10)
    want = [0, 1, 2, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 4, 5, 6, 7]
    assert numbers(clip(path, num_frames=18).frames) == want
    assert numbers(clip(path, 0.55, num_frames=9).frames) == want[5:14]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.ts", "libx264"),
        ("a.flv", "flv1"),
        ("a.avi", "libx264"),
    ],
)
def test_a_clip_from_the_middle_is_the_same_in_every_format(mux, name, codec):
    path = mux(name, range(31), codec=codec, unit=Fraction(1, 25))
    for first in (1, 9, 15, 24, 27):
        assert numbers(clip(path, first / 25, frame_rate=25).frames) == [*range(first, first + 4)]
    assert probe(path).seconds == pytest.approx(31 / 25, abs=1 / 25 + 1e-6)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mp4"])
def test_reading_from_the_middle_begins_at_a_key_frame_before(mux, name):
    path = mux(name, range(300), gop=8)
    first = next(frames_from(path, 25.05))
    assert 12 < first.time_s <= 25.0


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mp4"])
def test_times_are_from_the_first_frame(mux, name):
    path = mux(name, range(50, 70))
    assert next(iterate_frames(path))[0] == pytest.approx(0, abs=1e-6)
    assert numbers(clip(path, 1.2).frames) == [12, 13, 14, 15]
    assert probe(path).seconds == pytest.approx(2.0, abs=1e-3)


def test_colours_come_back(tmp_path):
    colors = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 0, 0], [255, 255, 255]], np.uint8
    )
    frame = np.repeat(np.repeat(colors[None], 32, axis=0), 32, axis=1)
    path = write_video(tmp_path / "a.mp4", [frame] * 3, 10)
    (_, read), *_ = iterate_frames(path)
    np.testing.assert_allclose(read[16, 16::32], colors, atol=6)


def test_the_short_side_fits_and_the_long_one_is_cut_where_asked():
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[...] = np.arange(100)[None, :, None]
    assert fit(picture, (40, 40), (0.5, 0.5))[7, :, 0].tolist() == list(range(30, 70))
    assert fit(picture, (40, 40), (0.5, 0.0))[7, :, 0].tolist() == list(range(40))
    assert fit(picture, (40, 40), (0.5, 1.0))[7, :, 0].tolist() == list(range(60, 100))
    assert fit(picture, (40, 40), (0.0, 1.0))[7, :, 0].tolist() == list(range(60, 100))
    tall = fit(picture.swapaxes(0, 1), (20, 20), (0.0, 0.5))
    np.testing.assert_allclose(tall[:, 7, 0], np.arange(20) * 2 + 0.5, atol=0.51)
    assert fit(picture, (13, 31), (0.3, 0.9)).shape == (13, 31, 3)
    assert fit(picture, (80, 400), (0.5, 0.5)).shape == (80, 400, 3)


def test_pictures_shrink_by_area():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    want = noise.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(fit(noise, (8, 8), (0.5, 0.5)), want, atol=0.51)


def test_clips_are_resized_and_cut(tmp_path):
    frame = grey(0, (48, 96))
    frame[:, :32] = [240, 16, 16]
    path = write_video(tmp_path / "a.mp4", [frame] * 4, 10)
    left = clip(path, image_size=(24, 24), crop=(0.5, 0.0)).frames
    right = clip(path, image_size=(24, 24), crop=(0.5, 1.0)).frames
    assert left.shape == right.shape == (4, 24, 24, 3)
    assert left[0, :, 4:12, 0].min() > 200 and right[0].max() < 60


@pytest.mark.parametrize(("turn", "k"), [(b"", 0), ((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2)])
def test_what_was_filmed_on_its_side_stands(tmp_path, turn, k):
    frame = grey(2)
    frame[:10, :10] = 255
    path = write_video(tmp_path / "a.mp4", [frame] * 2, 10)
    if turn:
        # The matrix of the track's header, as telephones write it; the first one is a quarter
        # turn clockwise.
        contents = bytearray(path.read_bytes())
        a, b, c, d = (x << 16 for x in turn)
        matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        at = contents.index(b"tkhd") + 44
        contents[at : at + 36] = matrix
        path.write_bytes(contents)
    want = np.rot90(frame, k)
    (_, read), *_ = iterate_frames(path)
    assert read.shape == want.shape and read.flags.c_contiguous
    assert np.abs(read.astype(int) - want).mean() < 6
    info = probe(path)
    assert info.size == want.shape[:2]
    assert info.rotation % 360 == 90 * k % 360


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        video = file.add_stream("libx264", rate=10)
        video.height, video.width = SIZE
        video.pix_fmt = "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for i in range(3):
            file.mux(video.encode(av.VideoFrame.from_ndarray(grey(i))))
        file.mux(video.encode(None))
    assert probe(tmp_path / "a.mp4").size == (48, 96)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libvpx-vp9")])
def test_a_file_of_one_frame_is_a_clip_of_one_frame(mux, name, codec):
    path = mux(name, [0], codec=codec, first=5)
    assert numbers(clip(path, num_frames=1).frames) == [5]
    assert numbers(frame for _, frame in iterate_frames(path)) == [5]
    assert 0 < probe(path).seconds < 0.2
    with pytest.raises(VideoError, match=r"a\.m.. is 0\.1. s long, but 4 frames at 10 a second"):
        clip(path)


def test_a_file_tells_what_it_is(make_video, mux):
    info = probe(make_video(num_frames=20, frame_rate=12.5, sound=tone(440, 1.0)))
    assert info.seconds == pytest.approx(1.6)
    assert info.frame_rate == pytest.approx(12.5)
    assert (info.size, info.has_sound, info.rotation) == (SIZE, True, 0)
    assert not probe(make_video("b.mp4")).has_sound
    # Matroska tells the length of the longest track alone.
    longer = mux("a.mkv", range(10), sound=[(0, tone(440, 2.5)[None])])
    assert probe(longer).seconds == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ts", "libx264"), ("a.mkv", "libx264"), ("a.mpg", "mpeg2video"), ("a.flv", "flv1")],
)
def test_lengths_are_told_by_the_last_frames(mux, name, codec):
    path = mux(name, range(100), codec=codec, unit=Fraction(1, 25))
    times = [t for t, _ in iterate_frames(path)]
    assert len(times) == 100
    assert probe(path).seconds == pytest.approx(times[-1] + 1 / 25, abs=1e-3)


def test_both_lengths_are_named_where_a_video_is_too_short(make_video):
    path = make_video(num_frames=20)
    with pytest.raises(VideoError, match=r"2\.00 s long, but 21 frames at 10 a second last 2\.10"):
        clip(path, num_frames=21)
    with pytest.raises(VideoError, match=r"is 2\.00 s long.* last 0\.40 s, from 1\.70 s on"):
        clip(path, 1.7)
    with pytest.raises(VideoError, match=r"is 2\.00 s long.* last 0\.10 s, from 9\.00 s on"):
        clip(path, 9.0, num_frames=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_s": -0.1},
        {"start_s": float("nan")},
        {"num_frames": 0},
        {"frame_rate": 0.0},
        {"image_size": (0, 8)},
        {"num_samples": 0},
        {"num_samples": 8, "sample_rate": 0},
        {"crop": (0.5, 1.5)},
    ],
)
def test_arguments_out_of_range_are_named_before_anything_is_read(wrong, tmp_path):
    with pytest.raises(VideoError, match=f"{list(wrong)[-1]}=.*"):
        clip(tmp_path / "absent.mp4", **wrong)
