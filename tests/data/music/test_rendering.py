"""Sound files and pictures."""

import wave

import numpy as np
import pretty_midi
import pytest

from perceiver_jax.data.music import MusicError, Note, piano_roll, render_wav


def read(path):
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


def loudest_frequency(samples, rate):
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64)))
    return np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()]


@pytest.fixture
def without_fluidsynth(monkeypatch):
    def absent(self, **_):
        raise ImportError

    monkeypatch.setattr(pretty_midi.PrettyMIDI, "fluidsynth", absent)


def test_a_note_sounds_at_its_pitch_for_its_time(tmp_path, without_fluidsynth):
    render_wav([Note(69, 64, 0.5, 1.5)], tmp_path / "a.wav", sample_rate=8000)
    rate, samples = read(tmp_path / "a.wav")
    assert rate == 8000 and len(samples) >= 1.5 * rate
    assert not samples[: rate // 2].any()
    assert loudest_frequency(samples[rate // 2 : rate * 3 // 2], rate) == pytest.approx(440, abs=2)
    assert np.abs(samples).max() == round(0.9 * 32767)


def test_a_sound_font_is_preferred(tmp_path, monkeypatch):
    sound = np.array([0.0, 0.25, -0.5])
    monkeypatch.setattr(pretty_midi.PrettyMIDI, "fluidsynth", lambda self, **_: sound)
    render_wav([Note(69, 64, 0.0, 1.0)], tmp_path / "a.wav")
    rate, samples = read(tmp_path / "a.wav")
    assert rate == 44100
    np.testing.assert_allclose(samples, sound * 2 * 0.9 * 32767, atol=1)


def test_silence_is_no_division_by_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(pretty_midi.PrettyMIDI, "fluidsynth", lambda self, **_: np.zeros(3))
    render_wav([Note(69, 64, 0.0, 1.0)], tmp_path / "a.wav")
    assert read(tmp_path / "a.wav")[1].tolist() == [0, 0, 0]


def test_nothing_to_render_and_impossible_rates_are_refused(tmp_path, tune):
    with pytest.raises(MusicError, match=r"no note to render to .*a.wav; give at least one"):
        render_wav([], tmp_path / "a.wav")
    with pytest.raises(MusicError, match="sample_rate=1 is not from 8000 to 96000"):
        render_wav(tune, tmp_path / "a.wav", sample_rate=1)


def test_the_roll_shows_keys_over_time():
    notes = [Note(127, 127, 0.0, 0.5), Note(0, 10, 1.0, 1.001)]
    picture = piano_roll(notes, columns_per_second=10)
    assert picture.shape == (128, 11, 3) and picture.dtype == np.uint8
    shown = picture.any(axis=-1)
    assert np.argwhere(shown).tolist() == [[0, i] for i in range(5)] + [[127, 10]]
    assert picture[0, 0].tolist() == [255, 255, 255] != picture[0, 1].tolist()


def test_keys_struck_harder_are_brighter():
    soft, hard = (piano_roll([Note(60, v, 0.0, 1.0)])[67, 5].sum() for v in (20, 120))
    assert 0 < soft < hard
    assert piano_roll([]).shape == (128, 1, 3)
