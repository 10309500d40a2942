"""Sounds of TFDS. Its own feature for sounds needs TensorFlow; what stands for it here does not."""

import types

import numpy as np
import pytest

from perceiver_jax.data import AudioDataConfig, DatasetError
from perceiver_jax.data.audio import tfds_sounds
from perceiver_jax.data.audio.tfds_sounds import load_tfds_sounds
from tests.data.audio.conftest import RATE, tone

AUDIO = types.SimpleNamespace(sample_rate=RATE)
LABEL = types.SimpleNamespace(names=["low", "high"])


@pytest.fixture
def prepared(monkeypatch):
    """A function that puts records with features where a prepared dataset would be read."""

    def put(records, **features):
        builder = types.SimpleNamespace(info=types.SimpleNamespace(features=features))
        monkeypatch.setattr(tfds_sounds, "open_records", lambda *_: (builder, records))

    return put


def record(samples, label=1):
    return {"audio": np.asarray(samples), "label": np.int64(label)}


def test_integers_are_of_16_bits_and_floats_are_as_they_are(prepared):
    sound = tone(440, 0.1)
    prepared(
        [record(np.rint(2**15 * sound).astype(np.int64)), record(sound)], audio=AUDIO, label=LABEL
    )
    source = load_tfds_sounds("tones", "train", None)
    assert len(source) == 2 and source.class_names == ("low", "high")
    for i in range(2):
        assert source[i]["label"] == 1 and source[i]["sound"].seconds() == pytest.approx(0.1)
        read = source[i]["sound"].read(0.0, 1600, RATE, 1)[:, 0]
        np.testing.assert_allclose(read, sound, atol=1e-4)


def test_channels_lie_last(prepared):
    prepared([record(np.stack([tone(440, 0.1), tone(660, 0.1)], 1))], audio=AUDIO, label=LABEL)
    read = load_tfds_sounds("tones", "train", None)[0]["sound"].read(0.0, 1600, RATE, 2)
    np.testing.assert_allclose(read[:, 1], tone(660, 0.1), atol=1e-6)


def test_the_config_opens_them_by_name(prepared):
    prepared([record(tone(440, 0.2))], audio=AUDIO, label=LABEL)
    config = AudioDataConfig(dataset="tfds:tones", sample_rate=8_000, num_samples=800)
    example = config.prepare(config.open("train")[0], None)
    assert example["inputs"].shape == (800, 1) and np.abs(example["inputs"]).max() > 0.4


@pytest.mark.parametrize(
    "features",
    [
        {"audio": types.SimpleNamespace(sample_rate=None), "label": LABEL},
        {"audio": AUDIO, "label": types.SimpleNamespace()},
        {"audio": AUDIO},
        {"label": LABEL},
    ],
)
def test_datasets_that_say_too_little_are_refused(prepared, features):
    prepared([], **features)
    with pytest.raises(DatasetError, match="'tfds:tones' has the features .*'label' of named"):
        load_tfds_sounds("tones", "train", None)


def test_an_example_without_sound_is_named(prepared):
    prepared([record([])], audio=AUDIO, label=LABEL)
    with pytest.raises(DatasetError, match="example 0 of .* holds no sound; prepare it again"):
        load_tfds_sounds("tones", "train", None)[0]


def test_a_dataset_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(DatasetError, match="'tfds:speech_commands', split 'train', cannot be read"):
        load_tfds_sounds("speech_commands", "train", str(tmp_path))
