"""Notes of a small SoundFont whose recordings are sines."""

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.audio.soundfont import (
    ATTACK,
    ATTENUATION,
    DECAY,
    END,
    FINE_TUNE,
    INSTRUMENT,
    KEYS,
    LOOP_END,
    MODES,
    ROOT_KEY,
    SAMPLE,
    SCALE,
    SUSTAIN,
    TUNE,
    VELOCITIES,
    SoundFont,
)
from tests.data.audio.conftest import RATE, pitch, soundfont, span

HERTZ = 441.0
"""A hundred samples a wave at the rate of the recording."""
SINE = np.rint(20_000 * np.sin(2 * np.pi * np.arange(4_410) / 100)).astype(np.int16)
RECORDING = {"samples": SINE, "loop": (1_000, 4_000), "rate": 44_100, "key": 69}


def font_of(*zones, recordings=(RECORDING,), of_preset=None):
    return SoundFont(
        soundfont(recordings, {7: [{**(of_preset or {}), INSTRUMENT: 0}]}, instruments=[zones])
    )


def played(font, key=69, seconds=1.0, rate=RATE, **options):
    [zone] = font.zones(7, key, **options)
    return font.play(zone, key, round(seconds * rate), rate)


@pytest.mark.parametrize("key", [48, 62, 69, 70, 84, 96])
def test_a_key_is_played_at_its_pitch(key):
    sound = played(font_of({MODES: 1, SAMPLE: 0}), key)
    assert sound.shape == (RATE,) and sound.dtype == np.float32
    assert pitch(sound) == pytest.approx(HERTZ * 2 ** ((key - 69) / 12), rel=3e-3)
    assert np.abs(sound[200:]).max() == pytest.approx(20_000 / 32_768, rel=0.02)


def test_a_loop_goes_on_without_a_seam():
    sound = played(font_of({MODES: 1, SAMPLE: 0}), seconds=2.0, rate=44_100)
    want = 20_000 / 32_768 * np.sin(2 * np.pi * np.arange(88_200) / 100)
    np.testing.assert_allclose(sound[100:], want[100:], atol=1e-3)


def test_without_a_loop_a_recording_ends():
    sound = played(font_of({SAMPLE: 0}), rate=44_100)
    assert np.abs(sound[:4_400]).max() > 0.6 and not sound[4_411:].any()


def test_what_is_above_half_the_rate_is_cut_off():
    # 441 Hz cannot be at 800 samples a second, and must not come back as 359.
    assert np.abs(played(font_of({MODES: 1, SAMPLE: 0}), rate=800)[50:-50]).max() < 0.01
    assert np.abs(played(font_of({MODES: 1, SAMPLE: 0}), rate=900)[50:-50]).max() > 0.5


@pytest.mark.parametrize(
    ("zone", "key", "cents"),
    [
        ({TUNE: 3}, 69, 300),
        ({FINE_TUNE: -40}, 69, -40),
        ({ROOT_KEY: 60}, 69, 900),
        ({SCALE: 50}, 60, -450),
        ({SCALE: 0}, 60, 0),
    ],
)
def test_tuning_moves_the_pitch(zone, key, cents):
    font = font_of({**zone, MODES: 1, SAMPLE: 0})
    assert pitch(played(font, key)) == pytest.approx(HERTZ * 2 ** (cents / 1200), rel=3e-3)


def test_a_recording_says_how_far_it_is_from_its_key():
    font = font_of({MODES: 1, SAMPLE: 0}, recordings=[RECORDING | {"cents": 50}])
    assert pitch(played(font)) == pytest.approx(HERTZ * 2 ** (50 / 1200), rel=2e-3)


def test_loudness_falls_as_the_envelope_says():
    # -1,200 timecents are half a second, for 100 decibels; 200 of a tenth are held.
    font = font_of({MODES: 1, DECAY: -1_200, SUSTAIN: 200, SAMPLE: 0})
    sound = played(font, rate=44_100)
    level = [np.abs(sound[i : i + 441]).max() for i in (0, 2_205, 6_615, 40_000)]
    decibels = 20 * np.log10(np.array(level[1:]) / level[0])
    np.testing.assert_allclose(decibels, [-10, -20, -20], atol=1.5)


def test_loudness_rises_as_the_envelope_says():
    sound = played(font_of({MODES: 1, ATTACK: -1_200, SAMPLE: 0}), rate=44_100)
    level = [np.abs(sound[i : i + 100]).max() for i in (0, 11_025, 22_050)]
    np.testing.assert_allclose(np.array(level) / level[2], [0, 0.5, 1], atol=0.02)


def test_attenuation_is_in_tenths_of_a_decibel():
    loud, soft = (
        np.abs(played(font_of({MODES: 1, ATTENUATION: x, SAMPLE: 0}))[500:]).max() for x in (0, 60)
    )
    assert soft / loud == pytest.approx(10 ** (-6 / 20), rel=1e-3)


def test_keys_and_strokes_choose_the_recordings():
    low = {KEYS: span(0, 59), SAMPLE: 0}
    soft = {KEYS: span(60, 127), VELOCITIES: span(0, 63), SAMPLE: 0}
    hard = {KEYS: span(60, 127), VELOCITIES: span(64, 127), SAMPLE: 1}
    font = font_of(low, soft, hard, hard, recordings=[RECORDING] * 2)
    assert [x.recording for x in font.zones(7, 59)] == [0]
    assert [x.recording for x in font.zones(7, 60, velocity=50)] == [0]
    assert [x.recording for x in font.zones(7, 60)] == [1, 1]
    narrow = font_of(low, of_preset={KEYS: span(50, 55)})
    assert narrow.zones(7, 55) and not narrow.zones(7, 56)


def test_a_zone_without_a_recording_is_of_all_behind_it():
    common, own = {MODES: 1, TUNE: 12}, {TUNE: 0, SAMPLE: 0}
    assert pitch(played(font_of(common, {SAMPLE: 0}))) == pytest.approx(2 * HERTZ, rel=1e-2)
    assert pitch(played(font_of(common, own))) == pytest.approx(HERTZ, rel=1e-2)


def test_what_a_preset_says_is_added():
    font = font_of({MODES: 1, FINE_TUNE: 30, SAMPLE: 0}, of_preset={FINE_TUNE: 40})
    assert pitch(played(font)) == pytest.approx(HERTZ * 2 ** (70 / 1200), rel=2e-3)


def test_ends_are_moved():
    font = font_of({END: -2_410, SAMPLE: 0})
    assert not played(font, rate=44_100)[2_001:].any()
    [zone] = font_of({MODES: 1, LOOP_END: -500, SAMPLE: 0}).zones(7, 69)
    assert zone.loop == (1_000, 3_500)


def test_a_loop_that_cannot_be_is_none():
    [zone] = font_of({MODES: 1, LOOP_END: -3_500, SAMPLE: 0}).zones(7, 69)
    assert zone.loop is None


def test_a_preset_that_is_not_there_is_said():
    with pytest.raises(DatasetError, match="no preset 8 in bank 0"):
        font_of({SAMPLE: 0}).zones(8, 60)


@pytest.mark.parametrize("zone", [{SAMPLE: 5}, {END: 99, SAMPLE: 0}])
def test_what_cannot_be_is_an_error(zone):
    with pytest.raises(DatasetError, match="preset 7 of the SoundFont is damaged"):
        font_of(zone).zones(7, 60)


def test_an_absurd_pitch_is_an_error_and_takes_no_memory():
    font = font_of({MODES: 1, SCALE: 1_200, SAMPLE: 0})
    with pytest.raises(DatasetError, match="plays recording 0 absurdly fast"):
        played(font, 127)


def test_the_end_of_a_note_is_not_heard_at_its_beginning():
    # Nothing at first, and full at the end, in half as many samples.
    rise = np.sin(np.linspace(0, np.pi / 2, 1_000)) ** 2
    samples = np.concatenate([np.zeros(1_000), 30_000 * rise, np.full(200, 30_000)])
    recording = {"samples": samples.astype(np.int16), "loop": (0, 9), "rate": 2 * RATE, "key": 69}
    sound = played(font_of({SAMPLE: 0}, recordings=[recording]), seconds=1_000 / RATE)
    assert np.abs(sound[:300]).max() < 1e-4 and sound[-1] > 0.8


@pytest.mark.parametrize("change", [lambda x: b"", lambda x: x[:-9], lambda x: b"XXXX" + x[4:]])
def test_a_file_that_is_none_is_an_error(change):
    contents = soundfont([RECORDING], {7: [{INSTRUMENT: 0}]}, instruments=[[{SAMPLE: 0}]])
    SoundFont(contents)
    with pytest.raises(DatasetError, match="no whole SoundFont 2 file"):
        SoundFont(change(contents))


@pytest.mark.parametrize("missing", [b"smpl", b"phdr", b"igen", b"shdr"])
def test_a_file_without_a_table_is_an_error(missing):
    contents = soundfont([RECORDING], {7: [{INSTRUMENT: 0}]}, instruments=[[{SAMPLE: 0}]])
    with pytest.raises(DatasetError, match=missing.decode()):
        SoundFont(contents.replace(missing, b"none"))
