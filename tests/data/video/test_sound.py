"""The sound of clips: its pitch, its place in time, and silence where there is none."""

from fractions import Fraction

import av
import numpy as np
import pytest

from perceiver_jax.data.video import VideoError, read_clip
from perceiver_jax.data.video import sound as sound_module
from tests.data.video.conftest import tone

RATE = 48_000


def sound_of(path, start_s=0.0, seconds=0.5, rate=RATE):
    clip = read_clip(
        path,
        start_s=start_s,
        num_frames=1,
        frame_rate=10,
        image_size=(8, 8),
        num_samples=round(seconds * rate),
        sample_rate=rate,
    )
    assert clip.sound.shape == (round(seconds * rate), 1) and clip.sound.dtype == np.float32
    assert np.abs(clip.sound).max() <= 1.0
    return clip.sound[:, 0], clip.has_sound


def pitch(sound, rate=RATE):
    """The loudest frequency."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return np.argmax(spectrum) * rate / len(sound)


def click(at_s, seconds, rate=RATE):
    """Silence with a short click."""
    times = np.arange(int(seconds * rate)) / rate - at_s
    return np.float32(0.9 * np.exp(-((times * 3000) ** 2)))


def test_a_tone_comes_back_with_its_pitch_and_loudness(make_video):
    path = make_video(sound=tone(440, 2.0))
    sound, has_sound = sound_of(path, 0.3)
    assert has_sound
    assert pitch(sound) == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.mean(sound**2)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rate", [16_000, 44_100, 22_050, 48_000])
@pytest.mark.parametrize("file_rate", [44_100, 48_000])
def test_sound_is_resampled_without_moving(make_video, file_rate, rate):
    path = make_video(sound=tone(440, 2.0, file_rate), sample_rate=file_rate)
    sound, _ = sound_of(path, 0.3, rate=rate)
    want = tone(440, 0.8, rate)[-len(sound) :]
    assert pitch(sound, rate) == pytest.approx(440, abs=2)
    assert np.abs(sound - want).max() < 0.02


@pytest.mark.parametrize(
    ("name", "codec", "within_s"),
    [
        ("a.mp4", "aac", 1e-4),
        ("a.mkv", "aac", 1e-3),
        ("a.ts", "aac", 1e-4),
        ("a.avi", "pcm_s16le", 1e-4),
    ],
)
@pytest.mark.parametrize("start_s", [0.0, 0.9, 2.4, 2.75])
def test_sound_is_that_of_the_moment_of_the_first_frame(mux, name, codec, within_s, start_s):
    path = mux(name, range(40), sound=[(0, click(3.0, 4.0)[None])], sound_codec=codec)
    sound, _ = sound_of(path, start_s, seconds=3.2 - start_s)
    assert np.abs(sound).max() > 0.5
    assert np.argmax(np.abs(sound)) / RATE + start_s == pytest.approx(3.0, abs=within_s)


def test_sound_is_whole_where_a_file_leads_behind_it(mux):
    # Seeking in MPEG leads to a key frame, but not to the sound of its time.
    path = mux(
        "a.mpg", range(250), codec="mpeg2video", unit=Fraction(1, 25), gop=50,
        sound=[(0, tone(440, 10.0)[None])], sound_codec="mp2",
    )  # fmt: skip
    for start_s in (1.1, 4.0, 9.3):
        sound, _ = sound_of(path, start_s)
        assert np.abs(sound - tone(440, start_s + 0.5)[-len(sound) :]).max() < 0.01


def test_only_the_sound_about_a_clip_is_decoded(make_video, monkeypatch):
    path = make_video(num_frames=200, sound=tone(440, 20.0))
    decoded = []
    monkeypatch.setattr(
        sound_module,
        "channels",
        lambda frame, n: decoded.append(frame) or np.zeros((n, frame.samples)),
    )
    sound_of(path, 18.0)
    assert 2.5 * RATE / 1024 - 5 < len(decoded) < 200


def test_sound_keeps_its_place_where_frames_begin_late(mux):
    path = mux("a.mkv", range(5, 40), sound=[(0, click(3.0, 4.0)[None])])
    sound, _ = sound_of(path, 2.4)
    assert np.argmax(sound) / RATE + 2.4 == pytest.approx(2.5, abs=1e-3)


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8", "flac", "pcm_f32le", "pcm_s32le"])
def test_two_channels_become_their_mean(mux, codec):
    left, right = tone(440, 1.0, loudness=0.6), tone(440, 1.0, loudness=0.2)
    path = mux("a.mkv", range(10), sound=[(0, np.stack([left, right]))], sound_codec=codec)
    sound, _ = sound_of(path)
    np.testing.assert_allclose(sound, (left + right)[: len(sound)] / 2, atol=0.01)


def test_a_video_without_a_track_is_silent_and_says_so(make_video):
    sound, has_sound = sound_of(make_video())
    assert not has_sound and not sound.any()


def test_behind_the_end_of_the_track_it_is_silent(make_video):
    path = make_video(sound=tone(440, 1.0))
    sound, has_sound = sound_of(path, 0.8)
    assert has_sound
    assert np.abs(sound[: RATE // 8]).max() > 0.4
    assert np.abs(sound[RATE // 4 :]).max() < 1e-3
    sound, has_sound = sound_of(path, 1.5, seconds=0.1)
    assert not has_sound and not sound.any()


def test_before_the_beginning_of_the_track_it_is_silent(mux):
    start = int(1.2 * RATE)
    path = mux("a.mkv", range(20), sound=[(start, tone(440, 0.8)[None])])
    sound, has_sound = sound_of(path, 1.0)
    assert has_sound
    assert not sound[: int(0.195 * RATE)].any()
    assert np.abs(sound[int(0.21 * RATE) :]).max() > 0.4
    assert sound_of(path, 0.2) == (pytest.approx(np.zeros(RATE // 2)), False)


def test_a_gap_in_the_track_is_silent_and_moves_nothing(mux):
    sound = [(0, tone(440, 0.5)[None]), (RATE, tone(880, 0.5)[None])]
    path = mux("a.mkv", range(20), sound=sound)
    found, has_sound = sound_of(path, 0.25, seconds=1.25)
    assert has_sound
    assert not found[int(0.26 * RATE) : int(0.74 * RATE)].any()
    assert pitch(found[: RATE // 4]) == pytest.approx(440, abs=4)
    np.testing.assert_allclose(
        found[int(0.76 * RATE) :], tone(880, 0.5)[int(0.01 * RATE) :], atol=0.01
    )


def test_rounded_time_stamps_do_not_tear_samples_apart(mux):
    # Matroska's are milliseconds, and packets of 1024 samples are none.
    path = mux("a.mkv", range(20), sound=[(0, tone(440, 2.0, 44_100)[None])], sound_rate=44_100)
    found, _ = sound_of(path, 0.3, seconds=1.0, rate=44_100)
    np.testing.assert_allclose(found, tone(440, 1.3, 44_100)[-len(found) :], atol=1e-3)


def test_sound_beyond_full_scale_is_cut_off(mux):
    loud = tone(440, 1.0, loudness=3.0)[None]
    sound, _ = sound_of(mux("a.mkv", range(10), sound=[(0, loud)], sound_codec="pcm_f32le"))
    np.testing.assert_array_equal(sound, np.clip(loud[0, : len(sound)], -1, 1))


def test_a_long_clip_is_read_in_one_piece(make_video):
    path = make_video(num_frames=60, sound=tone(440, 6.0))
    sound, _ = sound_of(path, 0.5, seconds=5.0)
    assert np.abs(sound - tone(440, 5.5)[-len(sound) :]).max() < 0.02


def test_no_sound_is_read_where_none_is_asked_for(make_video):
    clip = read_clip(
        make_video(sound=tone(440, 2.0)), num_frames=1, frame_rate=10, image_size=(8, 8)
    )
    assert clip.sound is None and not clip.has_sound


def test_damaged_sound_is_named(make_video):
    path = make_video(sound=tone(440, 2.0))
    with av.open(str(path)) as file:
        packets = [(x.pts, x.pos, x.size) for x in file.demux(audio=0) if x.size]
    contents = bytearray(path.read_bytes())
    _, position, size = next(x for x in packets if x[0] > 1.5 * RATE)
    contents[position : position + size] = b"\x5a" * size
    path.write_bytes(contents)
    sound_of(path, 0.0, seconds=0.3)
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be read as a video: Invalid data"):
        sound_of(path, 1.3, seconds=0.3)
