"""Sound files of any format: what is in them, where it is, and what is wrong with them."""

import av
import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.audio import decoding, files
from perceiver_jax.data.audio.files import SoundFile
from tests.data.audio.conftest import RATE, pitch, tone, write_wav


def click(at_s, seconds, rate=48_000):
    """Silence with a short click."""
    times = np.arange(round(seconds * rate)) / rate - at_s
    return np.float32(0.9 * np.exp(-((times * 3000) ** 2)))


FORMATS = [
    ("a.wav", "pcm_s16le"),
    ("b.wav", "pcm_u8"),
    ("c.wav", "pcm_f32le"),
    ("d.wav", "pcm_s24le"),
    ("a.flac", "flac"),
    ("a.mp3", "mp3"),
    ("a.ogg", "flac"),
    ("a.opus", "libopus"),
    ("a.m4a", "aac"),
    ("a.aac", "aac"),
    ("a.mka", "aac"),
    ("a.aiff", "pcm_s16be"),
]


@pytest.mark.parametrize(("name", "codec"), FORMATS)
@pytest.mark.parametrize("start_s", [0.0, 2.4])
def test_sound_of_any_format_is_where_it_was(encode, name, codec, start_s):
    file = SoundFile(encode(name, codec, click(3.0, 5.0)))
    assert file.seconds() == pytest.approx(5.0, abs=0.1)
    sound = file.read(start_s, round((3.3 - start_s) * RATE), RATE, 1)
    assert sound.shape == (round((3.3 - start_s) * RATE), 1) and sound.dtype == np.float32
    # ADTS tells nothing of what its encoder put before the first sample.
    within = 0.05 if name == "a.aac" else 1.2e-3
    assert np.argmax(np.abs(sound[:, 0])) / RATE + start_s == pytest.approx(3.0, abs=within)
    assert np.abs(sound).max() > 0.4


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_sound_is_resampled_to_the_rate_asked_for(tmp_path, rate):
    path = write_wav(tmp_path / "a.wav", tone(440, 3.0, 22_050), 22_050)
    sound = SoundFile(path).read(1.5, rate // 2, rate, 1)[:, 0]
    assert np.abs(sound - tone(440, 2.0, rate)[-len(sound) :]).max() < 0.01


def test_channels_are_averaged_or_kept_or_doubled(tmp_path):
    left, right = tone(440, 1.0, loudness=0.6), tone(660, 1.0, loudness=0.2)
    two = SoundFile(write_wav(tmp_path / "two.wav", [left, right]))
    sound = two.read(0.0, 8_000, RATE, 2)
    np.testing.assert_allclose(sound, np.stack([left, right], 1)[:8_000], atol=1e-4)
    mono = two.read(0.0, 8_000, RATE, 1)
    np.testing.assert_allclose(mono[:, 0], (left + right)[:8_000] / 2, atol=1e-4)
    one = SoundFile(write_wav(tmp_path / "one.wav", left))
    np.testing.assert_allclose(
        one.read(0, 8_000, RATE, 2), left[:8_000, None].repeat(2, 1), atol=1e-4
    )


def test_the_sound_of_a_video_is_read(tmp_path):
    from perceiver_jax.data.video import write_video

    frames = [np.zeros((32, 32, 3), np.uint8)] * 20
    path = write_video(tmp_path / "a.mp4", frames, 10, tone(440, 2.0, 48_000), 48_000)
    file = SoundFile(path)
    assert file.seconds() == pytest.approx(2.0, abs=0.1)
    assert pitch(file.read(0.5, RATE, RATE, 1)[:, 0]) == pytest.approx(440, abs=2)


def test_behind_the_end_it_is_silent(tmp_path):
    sound = SoundFile(write_wav(tmp_path / "a.wav", tone(440, 1.0))).read(0.5, RATE, RATE, 1)
    assert np.abs(sound[: RATE // 2]).max() > 0.4 and not sound[RATE // 2 :].any()


@pytest.mark.parametrize(("name", "codec"), [("a.flac", "flac"), ("a.wav", "pcm_s16le")])
def test_only_what_is_about_a_crop_is_decoded(encode, name, codec, monkeypatch):
    file = SoundFile(encode(name, codec, tone(440, 60.0, 48_000)))
    decoded = []
    real = files.channels
    monkeypatch.setattr(
        files, "channels", lambda frame, n: decoded.append(frame.samples) or real(frame, n)
    )
    file.read(50.0, 4_800, 48_000, 1)
    assert 2 * 48_000 < sum(decoded) < 4 * 48_000


def test_silence_is_read_as_such(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros(RATE))
    assert not SoundFile(path).read(0.0, RATE, RATE, 1).any()


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "gone.wav", tmp_path):
        with pytest.raises(DatasetError, match=f"{path.name} is not there"):
            SoundFile(path).seconds()


@pytest.mark.parametrize("contents", [b"", b"no sound at all" * 99])
def test_a_file_that_is_no_sound_is_named(tmp_path, contents):
    path = tmp_path / "a.wav"
    path.write_bytes(contents)
    for call in (SoundFile(path).seconds, lambda: SoundFile(path).read(0.0, 10, RATE, 1)):
        with pytest.raises(DatasetError, match=r"a\.wav cannot be read as sound: .* leave it out"):
            call()


def test_a_file_without_samples_is_named(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros(0))
    with pytest.raises(DatasetError, match=r"a\.wav"):
        SoundFile(path).seconds()
    with pytest.raises(DatasetError, match=r"a\.wav"):
        SoundFile(path).read(0.0, 10, RATE, 1)


def test_a_file_without_a_sound_track_is_named(tmp_path):
    from perceiver_jax.data.video import write_video

    path = write_video(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 5, 10)
    with pytest.raises(DatasetError, match=r"a\.mp4 has no sound track"):
        SoundFile(path).seconds()


def test_a_playlist_is_not_followed(tmp_path):
    write_wav(tmp_path / "a.wav", tone(440, 1.0))
    path = tmp_path / "list.wav"
    path.write_text("ffconcat version 1.0\nfile a.wav\n")
    with pytest.raises(DatasetError, match=r"list\.wav cannot be read as sound"):
        SoundFile(path).seconds()


def test_a_file_that_is_cut_off_is_named_where_it_is_read(encode):
    path = encode("a.flac", "flac", np.random.default_rng(0).normal(size=48_000 * 8) / 8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    file = SoundFile(path)
    assert file.read(0.0, RATE, RATE, 1).any()
    with pytest.raises(DatasetError, match=r"a\.flac"):
        file.read(7.0, RATE, RATE, 1)


def test_damage_is_named_where_it_is_read(encode):
    path = encode("a.m4a", "aac", tone(440, 6.0, 48_000))
    with av.open(str(path)) as file:
        packets = [(x.pts, x.pos, x.size) for x in file.demux(audio=0) if x.size]
    contents = bytearray(path.read_bytes())
    for _, position, size in [x for x in packets if x[0] > 4 * 48_000]:
        contents[position : position + size] = b"\x5a" * size
    path.write_bytes(contents)
    SoundFile(path).read(0.0, RATE, RATE, 1)
    with pytest.raises(DatasetError, match=r"a\.m4a cannot be read as sound"):
        SoundFile(path).read(4.5, RATE, RATE, 1)


def test_without_the_package_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DatasetError, match=r"pip install -c constraints.txt '\.\[video\]'"):
        decoding.require_av()
