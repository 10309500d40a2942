"""What a dataset of labelled sounds is and what is done to it, as one config.

- Inputs are waveforms [S, c] float32 in [-1, 1], or mel spectrograms [T, m]; what is in them, and
  how loud, is as in the file unless the config says otherwise. Silence is a sound like others.
- Training takes a crop from anywhere in a sound, evaluation crops equally far apart from its
  beginning to its end. A sound that is shorter than a crop is followed by silence.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from perceiver_jax.config import setting
from perceiver_jax.data.audio.mel import MelConfig, masked, mel_spectrogram
from perceiver_jax.data.audio.pictures import spectrogram_picture, waveform_picture
from perceiver_jax.data.audio.sounds import SOUND, crops
from perceiver_jax.data.labelled import LabelledDataConfig, open_split
from perceiver_jax.data.pipeline import Example
from perceiver_jax.data.sources import DatasetError, Source
from perceiver_jax.data.stored_examples import entry, label_of

DATASETS = ("folders", "audioset", "instruments", "synthetic")
_MANY_LABELS = ("audioset", "instruments", "synthetic")
"""Datasets whose sounds have any number of classes."""
_LEAST_DEVIATION = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioDataConfig(LabelledDataConfig):
    """Labelled sounds: where from, which crops are made of them, and how they are shown."""

    dataset: str = setting(
        doc="'folders' for DIR/SPLIT/CLASS/*.wav, flac, mp3 and others; 'audioset' for its lists "
        "and the clips that are there; 'tfds:NAME' with the features audio and label; "
        "'instruments', recorded notes; or 'synthetic'"
    )
    sample_rate: int = setting(48_000, "samples a second, whatever those of the file")
    num_samples: int = setting(61_440, "samples S of a crop")
    num_channels: int = setting(
        1, "1: the mean of all channels; 2: the first two, a single one twice"
    )
    num_eval_views: int = setting(
        1,
        "crops of a held-out sound, over all of it, whose predictions are averaged; 1: its middle",
    )
    num_eval_examples: int = setting(1024, "held-out mixes of 'instruments'")
    representation: Literal["waveform", "mel"] = setting(
        "waveform", "'waveform', or 'mel' for spectrograms as the group `mel` has them"
    )
    mel: MelConfig = setting(MelConfig(), "spectrograms, where inputs are such")
    normalization: Literal["fixed", "crop"] = setting(
        "fixed",
        "what inputs are lessened and divided by: 'fixed', `mean` and `std`; 'crop', mean and "
        "standard deviation of each crop",
    )
    mean: float = setting(0.0, "of inputs, for normalization='fixed'")
    std: float = setting(1.0, "standard deviation of inputs, for normalization='fixed'")
    max_gain_db: float = setting(
        0.0, "training makes crops louder or softer by up to so many decibels"
    )
    mixing_rate: float = setting(
        0.0,
        "part of training crops that another one is mixed into, whose classes are added; for "
        "datasets with any number of classes, in [0, 1]",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.dataset not in DATASETS and not self.dataset.startswith("tfds:"):
            raise ValueError(
                f"no dataset of sounds is called '{self.dataset}'; there are {', '.join(DATASETS)} "
                "and 'tfds:NAME'"
            )
        if self.sample_rate < 1:
            raise ValueError(f"sample_rate={self.sample_rate} must be 1 or more")
        if self.num_channels > 2:
            raise ValueError(f"num_channels={self.num_channels} must be 1 or 2")
        if self.representation == "mel":
            if self.num_channels != 1:
                raise ValueError("representation='mel' is of one channel; set num_channels=1")
            self.mel.check(self.num_samples, self.sample_rate)
        if not self.std > 0:
            raise ValueError(f"std={self.std} must be above 0")
        if self.normalization == "crop" and (self.mean, self.std) != (0.0, 1.0):
            raise ValueError("mean and std are for normalization='fixed'; leave them at 0 and 1")
        if not 0.0 <= self.max_gain_db <= 60.0:
            raise ValueError(f"max_gain_db={self.max_gain_db} is not in [0, 60]")
        if not 0.0 <= self.mixing_rate <= 1.0:
            raise ValueError(f"mixing_rate={self.mixing_rate} is not in [0, 1]")
        if self.mixing_rate and self.dataset not in _MANY_LABELS:
            raise ValueError(
                f"mixing_rate={self.mixing_rate} needs a dataset whose sounds have any number of "
                f"classes: {', '.join(_MANY_LABELS)}"
            )

    def open(self, split: str) -> Source:
        """See `LabelledDataConfig`."""
        if self.dataset.startswith("tfds:"):
            from perceiver_jax.data.audio.tfds_sounds import load_tfds_sounds

            return load_tfds_sounds(self.dataset.removeprefix("tfds:"), split, self.data_dir)
        if self.dataset == "synthetic":
            from perceiver_jax.data.audio.synthetic import SyntheticSounds

            return SyntheticSounds(
                seconds=2 * self.num_samples / self.sample_rate,
                rate=self.sample_rate,
                num_examples=4 * self.batch_size,
                seed=int(split != self.train_split),
            )
        if self.dataset == "instruments":
            return self._instruments(split)
        if self.data_dir is None:
            raise DatasetError(
                f"dataset '{self.dataset}' needs a folder; name it: --config.data.data_dir"
            )
        if self.dataset == "audioset":
            from perceiver_jax.data.audio.audioset import AudioSet

            return AudioSet(self.data_dir, split)
        from perceiver_jax.data.audio.folders import SoundFolder

        return SoundFolder(self.data_dir, split, train_split=self.train_split)

    def _instruments(self, split: str) -> Source:
        from perceiver_jax.data.audio.general_midi import load_soundfont
        from perceiver_jax.data.audio.instruments import ENDLESS, InstrumentMixes

        return InstrumentMixes(
            load_soundfont(self.data_dir),
            split,
            num_samples=self.num_samples,
            sample_rate=self.sample_rate,
            num_examples=self.num_eval_examples if split == self.eval_split else ENDLESS,
        )

    def prepare(self, example: Example, rng: np.random.Generator | None) -> Example:
        """See `LabelledDataConfig`; without `rng` it is the crop in the middle.

        Args:
            example: `{"sound": a SoundFile, Samples or other Sound, "label": ...}`; without a label
                what is returned has none.
            rng: draws the crop and the augmentation; None in evaluation.
        """
        if rng is None:
            return self._at(example, [0.5])[0]
        [crop], labels = self._crops(example, [rng.random()]), label_of(example)
        if rng.random() < self.mixing_rate:
            source = open_split(self, self.train_split)
            other = source[int(rng.integers(len(source)))]
            share = np.float32(rng.uniform(0.25, 0.75))
            crop = share * crop + (1 - share) * self._crops(other, [rng.random()])[0]
            labels = {"label": example["label"] | other["label"]}
        gain = 10 ** (rng.uniform(-self.max_gain_db, self.max_gain_db) / 20)
        crop = np.clip(crop * np.float32(gain), -1.0, 1.0)
        return {"inputs": self._inputs(crop, rng), **labels}

    def views(self, example: Example) -> Sequence[Example]:
        """See `LabelledDataConfig`."""
        count = self.num_eval_views
        return self._at(example, np.linspace(0.0, 1.0, count) if count > 1 else [0.5])

    def picture(self, inputs: Any) -> np.ndarray:
        """See `LabelledDataConfig`; time goes to the right."""
        draw = spectrogram_picture if self.representation == "mel" else waveform_picture
        return draw(np.asarray(inputs))

    def _at(self, example: Example, places: Sequence[float] | np.ndarray) -> list[Example]:
        return [
            {"inputs": self._inputs(crop, None), **label_of(example)}
            for crop in self._crops(example, places)
        ]

    def _crops(self, example: Example, places: Sequence[float] | np.ndarray) -> list[np.ndarray]:
        return crops(
            entry(example, "sound", SOUND),
            [float(place) for place in places],
            num_samples=self.num_samples,
            sample_rate=self.sample_rate,
            num_channels=self.num_channels,
        )

    def _inputs(self, crop: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """[S, c] samples → what the model is given; what is masked has the mean."""
        inputs = crop
        if self.representation == "mel":
            inputs = mel_spectrogram(crop[:, 0], self.mel, self.sample_rate)
            if rng is not None:
                inputs = masked(inputs, self.mel, rng)
        mean, std = self.mean, self.std
        if self.normalization == "crop":
            mean, std = inputs.mean(), max(float(inputs.std()), _LEAST_DEVIATION)
        return ((inputs - np.float32(mean)) / np.float32(std)).astype(np.float32)
