"""Mixes of notes: of a small SoundFont that is made of tones, and of the real one."""

import importlib.util

import numpy as np
import pytest

from perceiver_jax.data import AudioDataConfig, DatasetError, Shard
from perceiver_jax.data.audio.instruments import FAMILIES, KEYS, InstrumentMixes
from perceiver_jax.data.audio.soundfont import INSTRUMENT, MODES, SAMPLE, SoundFont
from perceiver_jax.data.audio.soundfont import KEYS as KEY_RANGE
from perceiver_jax.data.labelled import labelled_batches
from tests.data.audio.conftest import soundfont, span

RATE, SIZE = 8_000, 2_000
PRESETS = [preset for sides in FAMILIES.values() for side in sides for preset in side]


def sine(waves):
    """A recording of so many waves in 400 samples; whichever key is played, that tells it."""
    samples = np.rint(10_000 * np.sin(2 * np.pi * waves * np.arange(400) / 400)).astype(np.int16)
    return {"samples": samples, "loop": (0, 400), "rate": RATE, "key": 60}


@pytest.fixture(scope="module")
def font():
    """Preset p has the recording of its family; presets of the test are silent below key 60."""
    families = list(FAMILIES)
    instruments = [[{56: 0, MODES: 1, SAMPLE: i}] for i in range(len(families))]
    presets = {}
    for i, (train, test) in enumerate(FAMILIES.values()):
        presets |= {x: [{INSTRUMENT: i}] for x in train}
        presets |= {x: [{KEY_RANGE: span(60, 127), INSTRUMENT: i}] for x in test}
    presets = dict(sorted(presets.items()))
    recordings = [sine(10 + 3 * i) for i in range(len(families))]
    return SoundFont(soundfont(recordings, presets, instruments=instruments))


def mixes(font, split="train", **options):
    return InstrumentMixes(font, split, num_samples=SIZE, sample_rate=RATE, **options)


def heard(sound):
    """Which recordings are in a mix: [8] bool."""
    spectrum = np.abs(np.fft.rfft(sound[-400:] * np.hanning(400)))
    return spectrum[10 : 10 + 3 * len(FAMILIES) : 3] > 0.02 * len(sound) / SIZE


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_families_of_a_label_are_those_that_are_heard(font, split):
    source = mixes(font, split)
    counts = set()
    for i in range(40):
        example = source[i]
        sound = example["sound"].samples
        assert sound.shape == (1, SIZE) and sound.dtype == np.float32
        assert np.abs(sound).max() <= 1.0
        np.testing.assert_array_equal(heard(sound[0]), example["label"])
        counts.add(int(example["label"].sum()))
    assert counts == {1, 2, 3}


def test_a_mix_is_the_same_whenever_it_is_made(font):
    first, second = mixes(font), mixes(font)
    second[3]
    for i in (0, 7, 2**29):
        np.testing.assert_array_equal(first[i]["sound"].samples, second[i]["sound"].samples)
    assert not np.array_equal(first[0]["sound"].samples, first[1]["sound"].samples)
    other = mixes(font, "test")[0]["sound"].samples
    assert not np.array_equal(first[0]["sound"].samples, other)


def test_notes_begin_in_the_first_half_and_are_held(font):
    source, starts = mixes(font), []
    for i in range(200):
        example = source[i]
        if example["label"].sum() == 1:
            sound = np.abs(example["sound"].samples[0])
            starts.append(np.flatnonzero(sound > 1e-3)[0])
            assert sound[-100:].max() > 0.05
    assert min(starts) < 0.1 * SIZE and 0.4 * SIZE < max(starts) <= 0.51 * SIZE


def test_keys_without_a_recording_are_not_played(font):
    source = mixes(font, "test")
    assert {min(keys) for keys in source._keys.values()} == {60}
    assert {max(keys) for keys in source._keys.values()} == {KEYS[-1]}


def test_a_source_is_as_long_as_is_asked(font):
    assert len(mixes(font)) == 2**30 and len(mixes(font, num_examples=5)) == 5
    with pytest.raises(DatasetError, match="no split is called 'val'; there are train, test"):
        mixes(font, "val")


def test_no_instrument_is_in_two_places():
    assert len(PRESETS) == len(set(PRESETS))
    for name, (train, test) in FAMILIES.items():
        assert len(train) >= 4 and test, name


@pytest.mark.skipif(
    importlib.util.find_spec("pretty_midi") is None, reason="the package pretty_midi is not there"
)
class TestRealRecordings:
    def test_no_recording_is_in_both_splits(self):
        from perceiver_jax.data.audio.general_midi import load_soundfont

        font = load_soundfont()
        heard = [
            {
                zone.recording
                for sides in FAMILIES.values()
                for preset in sides[side]
                for key in KEYS
                for zone in font.zones(preset, key)
            }
            for side in (0, 1)
        ]
        assert len(heard[0]) > 150 and len(heard[1]) > 50
        assert not heard[0] & heard[1]

    def test_a_is_an_a(self):
        from perceiver_jax.data.audio.general_midi import load_soundfont

        font = load_soundfont()
        for preset in (0, 19, 24, 40, 56, 68, 73):
            sound = sum(font.play(zone, 69, 16_000, 16_000) for zone in font.zones(preset, 69))
            spectrum = np.abs(np.fft.rfft(sound[2_000:] * np.hanning(14_000), 2**17))
            near = np.arange(2**17 // 2 + 1) * 16_000 / 2**17
            near = (near > 400) & (near < 484)
            found = np.flatnonzero(near)[spectrum[near].argmax()] * 16_000 / 2**17
            assert found == pytest.approx(440, rel=0.012), preset

    def test_batches_are_made_of_them(self):
        config = AudioDataConfig(
            dataset="instruments",
            sample_rate=16_000,
            num_samples=4_000,
            num_eval_examples=3,
            batch_size=2,
            eval_batch_size=2,
        )
        batch = labelled_batches(config, training=True, seed=0, shard=Shard())[5]
        assert batch["inputs"].shape == (2, 1, 4_000, 1) and batch["label"].shape == (2, 8)
        assert batch["inputs"].std() > 0.005
        held_out = labelled_batches(config, training=False, seed=0, shard=Shard())
        assert [held_out[i]["mask"].tolist() for i in range(2)] == [[True, True], [True, False]]
