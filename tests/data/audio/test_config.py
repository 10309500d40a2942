"""From a dataset to inputs: crops, views, spectrograms and what training does to them."""

import dataclasses

import numpy as np
import pytest

from perceiver_jax.config import ConfigError, from_dict, to_config_dict, to_dict
from perceiver_jax.data import AudioDataConfig, DatasetError, Shard
from perceiver_jax.data.audio import MelConfig, mel_spectrogram
from perceiver_jax.data.audio.sounds import Samples
from perceiver_jax.data.labelled import labelled_batches
from tests.data.audio.conftest import RATE, tone, write_wav

OPTIONS = {"dataset": "synthetic", "sample_rate": 100, "num_samples": 100}
RAMP = {"sound": Samples(np.arange(1000, dtype=np.float32)[None] / 1000, 100), "label": 3}
MEL = MelConfig(num_mel_bands=10, hop_length=100, window_length=200)


def config(**fields):
    return AudioDataConfig(**(OPTIONS | fields))


def rng(seed=0):
    return np.random.default_rng(seed)


def firsts(examples):
    """Where in the ramp crops begin."""
    return [round(float(x["inputs"][0, 0]) * 1000) for x in examples]


def test_without_a_generator_it_is_the_middle():
    example = config().prepare(RAMP, None)
    assert example["label"] == 3 and example["inputs"].shape == (100, 1)
    assert firsts([example]) == [450]


def test_training_crops_come_from_everywhere():
    begin = firsts([config().prepare(RAMP, rng(i)) for i in range(300)])
    assert min(begin) < 30 and max(begin) > 870 and len(set(begin)) > 200


def test_views_go_from_the_beginning_to_the_end():
    views = config(num_eval_views=16).views(RAMP)
    assert firsts(views) == [round(60 * i) for i in range(16)]
    assert all(view["label"] == 3 and view["inputs"].dtype == np.float32 for view in views)
    assert firsts(config(num_eval_views=1).views(RAMP)) == [450]


@pytest.mark.parametrize("generator", [None, rng()])
def test_a_new_sound_has_no_label(generator):
    new = {"sound": RAMP["sound"]}
    assert config().prepare(new, generator).keys() == {"inputs"}
    assert config().views(new)[0].keys() == {"inputs"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"waveform": 1}, r"no 'sound', but 'waveform'; expected a SoundFile\(path\) or Samples"),
        ({"sound": np.zeros(100)}, r"the sound is a ndarray; expected a SoundFile\(path\) or"),
    ],
)
def test_what_is_no_sound_is_an_error(wrong, message):
    for prepare in (lambda: config().prepare(wrong, rng()), lambda: config().views(wrong)):
        with pytest.raises(DatasetError, match=message):
            prepare()


def test_inputs_are_brought_to_fixed_or_own_mean_and_deviation():
    plain = config().prepare(RAMP, None)["inputs"]
    fixed = config(mean=0.5, std=0.1).prepare(RAMP, None)["inputs"]
    np.testing.assert_allclose(fixed, (plain - 0.5) / 0.1, rtol=1e-4, atol=1e-5)
    own = config(normalization="crop").prepare(RAMP, None)["inputs"]
    np.testing.assert_allclose(own, (plain - plain.mean()) / plain.std(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("representation", ["waveform", "mel"])
def test_silence_is_finite(representation):
    silent = {"sound": Samples(np.zeros((1, 1600), np.float32), RATE), "label": 0}
    made = config(
        sample_rate=RATE,
        num_samples=1600,
        representation=representation,
        mel=MEL,
        normalization="crop",
        max_gain_db=6.0,
    )
    inputs = made.prepare(silent, rng())["inputs"]
    assert np.isfinite(inputs).all() and np.abs(inputs).max() < 1


def test_gain_is_within_its_bounds():
    half = {"sound": Samples(np.full((1, 100), 0.1, np.float32), 100), "label": 0}
    gains = [
        20 * np.log10(config(max_gain_db=6.0).prepare(half, rng(i))["inputs"][0, 0] / 0.1)
        for i in range(200)
    ]
    assert -6.001 < min(gains) < -5 and 5 < max(gains) < 6.001
    assert config(max_gain_db=6.0).prepare(half, None)["inputs"][0, 0] == np.float32(0.1)


def test_what_becomes_too_loud_is_cut_off():
    full = {"sound": Samples(np.ones((1, 100), np.float32), 100), "label": 0}
    inputs = [config(max_gain_db=6.0).prepare(full, rng(i))["inputs"].max() for i in range(20)]
    assert max(inputs) == 1.0 and min(inputs) < 0.9


def test_spectrograms_are_those_of_the_crop():
    sound = {"sound": Samples(tone(440, 0.1)[None], RATE), "label": 0}
    made = config(sample_rate=RATE, num_samples=1600, representation="mel", mel=MEL)
    inputs = made.prepare(sound, None)["inputs"]
    np.testing.assert_array_equal(inputs, mel_spectrogram(tone(440, 0.1), MEL, RATE))
    assert inputs.shape == (16, 10)


def test_only_training_hides_a_part_of_a_spectrogram():
    sound = {"sound": Samples(tone(440, 0.1)[None], RATE), "label": 0}
    mel = dataclasses.replace(MEL, num_time_masks=2, num_frequency_masks=2)
    made = config(sample_rate=RATE, num_samples=1600, representation="mel", mel=mel)
    whole = mel_spectrogram(tone(440, 0.1), MEL, RATE)
    np.testing.assert_array_equal(made.prepare(sound, None)["inputs"], whole)
    hidden = [made.prepare(sound, rng(i))["inputs"] for i in range(5)]
    assert not any(np.array_equal(x, whole) for x in hidden)
    np.testing.assert_array_equal(made.views(sound)[0]["inputs"], whole)


def test_mixing_adds_another_sound_and_its_classes():
    alone = config(batch_size=8)
    source = alone.open("train")
    never, always = alone, dataclasses.replace(alone, mixing_rate=1.0)
    grown = 0
    for i in range(8):
        label = source[i]["label"]
        np.testing.assert_array_equal(never.prepare(source[i], rng(i))["label"], label)
        mixed = always.prepare(source[i], rng(i))
        assert (mixed["label"] >= label).all() and np.abs(mixed["inputs"]).max() <= 1
        grown += int(mixed["label"].sum() > label.sum())
    assert grown > 2
    np.testing.assert_array_equal(always.prepare(source[0], None)["label"], source[0]["label"])


def test_stereo_has_two_channels():
    two = {"sound": Samples(np.stack([np.zeros(100), np.ones(100)]).astype(np.float32), 100)}
    inputs = config(num_channels=2).prepare(two | {"label": 0}, None)["inputs"]
    assert inputs.shape == (100, 2) and not inputs[:, 0].any() and inputs[:, 1].all()


def test_batches_are_of_the_files_of_a_folder(tmp_path):
    for split, count in (("train", 4), ("test", 3)):
        for i in range(count):
            for name, hertz in (("high", 2000), ("low", 200)):
                write_wav(tmp_path / split / name / f"{i}.wav", tone(hertz, 0.5 + 0.1 * i))
    made = AudioDataConfig(
        dataset="folders",
        data_dir=str(tmp_path),
        sample_rate=8_000,
        num_samples=2_000,
        num_eval_views=3,
        batch_size=4,
        eval_batch_size=4,
    )
    batch = labelled_batches(made, training=True, seed=0, shard=Shard())[0]
    assert batch["inputs"].shape == (4, 1, 2_000, 1) and batch["label"].dtype == np.int32
    crossings = (np.diff(np.sign(batch["inputs"][:, 0, :, 0])) != 0).sum(axis=1)
    np.testing.assert_array_equal(batch["label"], (crossings < 300).astype(int))
    held_out = labelled_batches(made, training=False, seed=0, shard=Shard())
    assert held_out[0]["inputs"].shape == (4, 3, 2_000, 1)
    assert held_out[1]["mask"].tolist() == [True, True, False, False]
    again = labelled_batches(made, training=True, seed=0, shard=Shard())[0]
    np.testing.assert_array_equal(batch["inputs"], again["inputs"])


@pytest.mark.parametrize("dataset", ["folders", "audioset"])
def test_datasets_of_files_need_a_folder(dataset):
    with pytest.raises(DatasetError, match=f"'{dataset}' needs a folder.*data_dir"):
        config(dataset=dataset).open("train")


def test_synthetic_sounds_are_told_apart_and_are_the_same_again():
    made = config(sample_rate=RATE, num_samples=1600, batch_size=8)
    train, test = made.open("train"), made.open("test")
    assert len(train) == 32 and train.class_names == ("clicks", "noise", "sweep", "tone")
    first = train[0]["sound"].samples
    assert first.shape == (1, 3200) and 0.05 < np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, made.open("train")[0]["sound"].samples)
    assert not np.array_equal(first, test[0]["sound"].samples)
    labels = np.stack([train[i]["label"] for i in range(32)])
    assert labels.any(axis=0).all() and set(labels.sum(axis=1)) == {1, 2}


@pytest.mark.parametrize("representation", ["waveform", "mel"])
def test_inputs_have_a_picture(representation):
    made = config(sample_rate=RATE, num_samples=1600, representation=representation, mel=MEL)
    loud = {"sound": Samples(tone(440, 0.1)[None], RATE), "label": 0}
    silent = {"sound": Samples(np.zeros((1, 1600), np.float32), RATE), "label": 0}
    pictures = [made.picture(made.prepare(x, None)["inputs"]) for x in (loud, silent)]
    assert all(x.dtype == np.uint8 and x.shape == (96, 144, 3) for x in pictures)
    assert pictures[0].std() > 2 * pictures[1].std()


def test_a_spectrogram_is_shown_with_low_bands_below():
    made = config(sample_rate=RATE, num_samples=1600, representation="mel", mel=MEL)
    spectrogram = np.zeros((16, 10), np.float32)
    spectrogram[8:, 0] = 1.0
    brightness = made.picture(spectrogram).astype(int).sum(-1)
    assert brightness[-3:, 80:].min() > brightness[:80].max()
    assert brightness[-3:, :64].max() == brightness[0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "audio_set"}, "no dataset of sounds is called 'audio_set'; there are folders"),
        ({"sample_rate": 0}, "sample_rate=0 must be 1 or more"),
        ({"num_samples": 0}, "num_samples=0 is too small"),
        ({"num_channels": 3}, "num_channels=3 must be 1 or 2"),
        ({"num_eval_views": 0}, "num_eval_views=0 is too small"),
        ({"representation": "mfcc"}, "representation='mfcc' is none of 'waveform', 'mel'"),
        ({"std": 0.0}, "std=0.0 must be above 0"),
        ({"normalization": "crop", "std": 2.0}, "mean and std are for normalization='fixed'"),
        ({"max_gain_db": -1.0}, r"max_gain_db=-1.0 is not in \[0, 60\]"),
        ({"mixing_rate": 1.5}, r"mixing_rate=1.5 is not in \[0, 1\]"),
        ({"mixing_rate": 0.5, "dataset": "folders"}, "mixing_rate=0.5 needs a dataset whose"),
        ({"representation": "mel", "num_channels": 2}, "representation='mel' is of one channel"),
        ({"representation": "mel"}, "hop_length=1024 does not divide num_samples=100"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_a_config_survives_being_written_and_read():
    made = config(mel=MEL)
    assert from_dict(AudioDataConfig, to_config_dict(made)) == made
    with pytest.raises(ConfigError, match=r"config\.mel: hop_length=0 must be 1 or more"):
        from_dict(AudioDataConfig, to_dict(made) | {"mel": to_dict(MEL) | {"hop_length": 0}})
