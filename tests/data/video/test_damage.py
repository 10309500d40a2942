"""Files that are missing, damaged, cut off, or something else."""

import contextlib
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from perceiver_jax.data.video import (
    VideoError,
    frames,
    iterate_frames,
    probe,
    read_clip,
    reading,
    sound,
    write_video,
)
from perceiver_jax.data.video.containers import checked, opened
from tests.data.video.conftest import grey, numbers, tone


def read(path, start_s=0.0):
    return read_clip(
        path, start_s=start_s, num_frames=4, frame_rate=10, image_size=(8, 8), num_samples=800
    )


def check_refused(path, match):
    """Every way to read it ends in an error of one sentence that names the file."""
    for attempt in (lambda x: read(x, 5.0), probe, lambda x: list(iterate_frames(x))):
        with pytest.raises(VideoError, match=match) as error:
            attempt(path)
        assert path.name in str(error.value)


def test_what_is_not_there_is_named(tmp_path):
    check_refused(tmp_path / "absent.mp4", "is not there; name a video file")
    (tmp_path / "folder.mp4").mkdir()
    check_refused(tmp_path / "folder.mp4", "is no file; name a video file")


@pytest.mark.parametrize(
    "contents", [b"", b"what is this?\n" * 99, np.random.default_rng(0).bytes(5000)]
)
def test_other_bytes_are_no_video(tmp_path, contents):
    (tmp_path / "a.mp4").write_bytes(contents)
    check_refused(tmp_path / "a.mp4", "cannot be read as a video: ")


def test_a_picture_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(cv2.imencode(".png", grey(3))[1].tobytes())
    check_refused(tmp_path / "a.mp4", "cannot be read as a video: .* none of MP4, MOV")


def test_a_cover_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        cover = file.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        file.mux(cover.encode(av.VideoFrame.from_ndarray(grey(3))))
        file.mux(cover.encode(None))
    check_refused(path, "has no video in it")


def test_a_track_that_begins_unannounced_is_damage():
    def packets():
        yield 1
        raise IndexError("list index out of range")  # as av has it for such files

    items = checked(packets(), "a.flv")
    assert next(items) == 1
    with pytest.raises(VideoError, match="a.flv is damaged: it has a track that begins in the mid"):
        next(items)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        track = file.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(440, 0.5)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        file.mux([*track.encode(frame), *track.encode(None)])
    check_refused(tmp_path / "a.mp4", "has no video in it")


@pytest.mark.parametrize(
    "contents",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
    ],
)
def test_files_that_a_file_refers_to_are_not_opened(make_video, tmp_path, contents):
    other = make_video("other.mp4")
    assert numbers(read(other).frames) == [0, 1, 2, 3]
    (tmp_path / "a.mp4").write_text(contents.format(other.name))
    check_refused(tmp_path / "a.mp4", "cannot be read as a video: ")


def test_a_colon_in_a_name_is_no_protocol(make_video, tmp_path, monkeypatch):
    make_video("a.mp4").rename(tmp_path / "pipe:0.mp4")
    monkeypatch.chdir(tmp_path)
    assert numbers(read("pipe:0.mp4").frames) == [0, 1, 2, 3]


def test_a_file_that_was_cut_off_is_named(make_video):
    path = make_video(sound=tone(440, 2.0))
    path.write_bytes(path.read_bytes()[:-200])
    check_refused(path, "cannot be read as a video: Invalid data")


def test_what_is_left_of_a_recording_can_be_read_and_no_more(mux):
    path = mux("a.ts", range(60), gop=5)
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) // 2])
    assert numbers(read(path, 0.5).frames) == [5, 6, 7, 8]
    with pytest.raises(VideoError, match=r"a\.ts is (damaged|[\d.]+ s long)"):
        read(path, 5.0)


def test_a_file_that_promises_more_frames_than_it_has_is_damaged(mux):
    path = mux("a.mp4", range(100), gop=5, options={"movflags": "+faststart"})
    assert probe(path).seconds == pytest.approx(10)
    with av.open(str(path)) as file:
        ends = [packet.pos for packet in file.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[60]])
    assert numbers(read(path, 2.0).frames) == [20, 21, 22, 23]
    with pytest.raises(
        VideoError, match=r"a\.mp4 is damaged: its frames end at 6\... s of 10\.00 s"
    ):
        read(path, 9.0)


class Misleading:
    """A container that cannot seek, or ends up a few seconds behind."""

    def __init__(self, container, behind_s):
        self._container, self._behind_s = container, behind_s

    def __getattr__(self, name):
        return getattr(self._container, name)

    def seek(self, offset, stream=None):
        if self._behind_s is None:
            raise av.FFmpegError(1, "Operation not permitted")
        unit = Fraction(1, 1_000_000) if stream is None else stream.time_base
        self._container.seek(offset + round(self._behind_s / unit), stream=stream)


@pytest.mark.parametrize("behind_s", [None, 3])
def test_files_that_cannot_be_searched_are_read_from_the_beginning(mux, monkeypatch, behind_s):
    # Packets of 32 ms, as Matroska rounds times to whole ones.
    heard = [(0, tone(440, 10.0, 32_000)[None])]
    path = mux("a.mkv", range(100), sound=heard, sound_rate=32_000)
    want = read(path, 5.0)

    @contextlib.contextmanager
    def misleading(path):
        with opened(path) as container:
            yield Misleading(container, behind_s)

    for module in (frames, reading, sound):
        monkeypatch.setattr(module, "opened", misleading)
    found = read(path, 5.0)
    np.testing.assert_array_equal(found.frames, want.frames)
    np.testing.assert_allclose(found.sound, want.sound, atol=1e-4)
    assert probe(path).seconds == pytest.approx(10.0)


def noise(i):
    return np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)


def test_frames_before_damage_are_read_and_those_behind_never_guessed(tmp_path):
    path = write_video(tmp_path / "a.mp4", map(noise, range(30)), 10)
    before = [frame for _, frame in iterate_frames(path)]
    with av.open(str(path)) as file:
        packets = [(x.pts * x.time_base, x.pos, x.size) for x in file.demux(video=0) if x.size]
    contents = bytearray(path.read_bytes())
    _, position, size = next(x for x in packets if x[0] >= 1.5)
    contents[position + size // 2 : position + size // 2 + 40] = bytes(range(40))
    path.write_bytes(contents)
    seen = []
    # The decoder fills in what is lost, which nobody asked for.
    with pytest.raises(
        VideoError, match=r"a\.mp4 is damaged: the frame at 1\.\d+ s cannot be decoded"
    ):
        seen.extend(frame for _, frame in iterate_frames(path))
    with pytest.raises(VideoError, match=r"a\.mp4 is damaged: the frame at"):
        read(path, 2.5)
    assert len(seen) >= 10
    np.testing.assert_array_equal(seen, before[: len(seen)])
    read(path, 0.5)


def test_without_the_package_its_extra_is_named(make_video, monkeypatch):
    path = make_video()
    monkeypatch.setitem(sys.modules, "av", None)
    for attempt in (read, probe):
        with pytest.raises(VideoError, match=r"pip install -c constraints.txt '\.\[video\]'"):
            attempt(path)
