"""What a dataset of time series is and what is done to its series, as one config."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perceiver_jax.config import setting
from perceiver_jax.data.labelled import LabelledDataConfig, open_split
from perceiver_jax.data.pipeline import Example
from perceiver_jax.data.sources import DatasetError, Source
from perceiver_jax.data.stored_examples import entry, label_of
from perceiver_jax.data.time_series.csv_folders import read_csv_folder
from perceiver_jax.data.time_series.picture import draw
from perceiver_jax.data.time_series.synthetic import synthetic_series
from perceiver_jax.data.time_series.ts_files import read_folder

_EVALUATION_SEED = 0
_SYNTHETIC_SERIES = {"train": 512, "test": 256}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeSeriesDataConfig(LabelledDataConfig):
    """Time series with classes, at any moments, with missing values."""

    dataset: Literal[
        "japanese_vowels",
        "basic_motions",
        "italy_power_demand",
        "osu_leaf",
        "ts",
        "csv",
        "synthetic",
    ] = setting(
        doc="one that comes in a package, 'ts' for a folder of NAME_TRAIN.ts and NAME_TEST.ts, "
        "'csv' for DIR/SPLIT/CLASS/*.csv, or 'synthetic'; data_dir is that folder"
    )
    max_length: int = setting(
        128,
        "steps of an example: shorter series are padded; of longer ones a part is taken, from "
        "anywhere in training and from the middle in evaluation",
    )
    num_views: int = setting(
        1,
        "parts of a longer series in evaluation, evenly spread, whose predictions are averaged",
    )
    normalise: bool = setting(
        True, "whether each channel is brought to mean 0 and deviation 1 of the training split"
    )
    keep_fraction: float = setting(
        1.0,
        "part of the steps that is kept, drawn at random, so that times become irregular; in "
        "evaluation the draw is fixed",
    )
    value_noise: float = setting(
        0.0, "training adds noise of this standard deviation to values, after normalisation"
    )
    time_jitter: float = setting(
        0.0, "training adds noise of this standard deviation, in the unit of times, to times"
    )
    time_stretch: float = setting(
        0.0, "training multiplies times by a factor in 1 - this to 1 + this"
    )
    time_column: str | None = setting(
        "time", "of 'csv', the column of times; None: rows lie at 0, 1, 2, …"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.max_length < 1:
            raise ValueError(f"max_length={self.max_length} must be 1 or more")
        if not 0.0 < self.keep_fraction <= 1.0:
            raise ValueError(f"keep_fraction={self.keep_fraction} is not above 0 and at most 1")
        for name in ("value_noise", "time_jitter"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)} must be finite and 0 or more")
        if not 0.0 <= self.time_stretch < 1.0:
            raise ValueError(f"time_stretch={self.time_stretch} is not in [0, 1)")

    def open(self, split: str) -> Source:
        """See `LabelledDataConfig`; all series are read into memory."""
        if self.dataset == "synthetic":
            if split not in _SYNTHETIC_SERIES:
                raise DatasetError(
                    f"'synthetic' has no split '{split}'; it has {', '.join(_SYNTHETIC_SERIES)}"
                )
            seed = list(_SYNTHETIC_SERIES).index(split)
            return synthetic_series(num_series=_SYNTHETIC_SERIES[split], seed=seed)
        if self.dataset not in ("ts", "csv"):
            from perceiver_jax.data.time_series.packaged import read_packaged

            return read_packaged(self.dataset, split, self.data_dir).mixed()
        if self.data_dir is None:
            raise DatasetError(
                f"dataset '{self.dataset}' is a folder; name it with --config.data.data_dir"
            )
        folder = Path(self.data_dir).expanduser()
        if self.dataset == "ts":
            return read_folder(folder, split).mixed()
        source = read_csv_folder(folder, split, self.time_column, train_split=self.train_split)
        return source.mixed()

    def prepare(self, example: Example, rng: np.random.Generator | None) -> Example:
        """See `LabelledDataConfig`.

        Args:
            example: `{"values": [n, c], "times": [n], "label": int, "index": int}`; the index tells
                apart what examples draw in evaluation, and may be left out; without a label what is
                returned has none.
            rng: draws which part is taken and kept, and the noise; None in evaluation.

        Returns:
            Values [max_length, c] and times [max_length], counted from where the part begins; both
            are 0 where the mask is False.
        """
        example = _checked(example)
        spare = max(0, len(example["times"]) - self.max_length)
        start = spare // 2 if rng is None else int(rng.integers(spare + 1))
        return self._part(example, start, rng)

    def views(self, example: Example) -> Sequence[Example]:
        """See `LabelledDataConfig`."""
        if self.num_views == 1:
            return super().views(example)
        example = _checked(example)
        spare = max(0, len(example["times"]) - self.max_length)
        starts = np.linspace(0, spare, self.num_views).round().astype(int)
        return [self._part(example, int(start), None) for start in starts]

    def constants(self) -> Mapping[str, Sequence[float]]:
        """Mean and deviation of each channel, where series are normalised."""
        if not self.normalise:
            return {}
        first = open_split(self, self.train_split)[0]
        mean, deviation = _statistics(self, np.shape(first["values"])[1])
        return {"mean": mean[0].tolist(), "deviation": deviation[0].tolist()}

    def picture(self, inputs: Any) -> np.ndarray:
        """[120, 160, 3] uint8: a line for each channel, with a dot for each value."""
        return draw(inputs["values"], inputs["times"])

    def _part(self, example: Example, start: int, rng: np.random.Generator | None) -> Example:
        """Up to `max_length` steps from a start on, made ready."""
        steps = slice(start, start + self.max_length)
        values, times = example["values"][steps], example["times"][steps]
        times = times - times.min()
        kept = self._kept(len(times), int(example.get("index", 0)), rng)
        values, times = values[kept], times[kept]
        if self.normalise:
            mean, deviation = _statistics(self, values.shape[1])
            values = (values - mean) / deviation
        if rng is not None:
            values = values + self.value_noise * rng.standard_normal(values.shape)
            times = times * rng.uniform(1 - self.time_stretch, 1 + self.time_stretch)
            times = times + self.time_jitter * rng.standard_normal(times.shape)
        padding = self.max_length - len(times)
        inputs = {
            "values": np.pad(values, ((0, padding), (0, 0))).astype(np.float32),
            "times": np.pad(times, (0, padding)).astype(np.float32),
        }
        mask = np.arange(self.max_length) < len(times)
        return {"inputs": inputs, "input_mask": mask, **label_of(example)}

    def _kept(self, length: int, index: int, rng: np.random.Generator | None) -> np.ndarray:
        """Steps that are kept, in their order."""
        if rng is None:
            rng = np.random.default_rng((_EVALUATION_SEED, index))
        count = max(1, round(self.keep_fraction * length))
        return np.sort(rng.choice(length, count, replace=False))


def _checked(example: Example) -> Example:
    """The example with values [n, c] float32 and times [n] float64.

    Raises:
        DatasetError: they are not there, or of other shapes.
    """
    values = np.asarray(entry(example, "values", "[steps, channels] numbers"), np.float32)
    times = np.asarray(entry(example, "times", "[steps] numbers"), np.float64)
    if values.ndim != 2 or times.shape != values.shape[:1] or not values.size:
        raise DatasetError(
            f"'values' has shape {values.shape} and 'times' {times.shape}; expected "
            "[steps, channels] and [steps], as many of both, and one step at least"
        )
    if not np.isfinite(times).all():
        raise DatasetError("'times' has one that is not finite; leave out steps without a time")
    return {**example, "values": values, "times": times}


@functools.lru_cache(maxsize=8)
def _statistics(config: TimeSeriesDataConfig, num_channels: int) -> tuple[np.ndarray, np.ndarray]:
    """[c] mean and deviation of each channel, of all values of the training split.

    Raises:
        DatasetError: the training split has another number of channels.
    """
    source = open_split(config, config.train_split)
    values = [np.asarray(source[i]["values"], np.float64) for i in range(len(source))]
    if values[0].shape[1] != num_channels:
        raise DatasetError(
            f"a series has {num_channels} channels, but those of split '{config.train_split}' have "
            f"{values[0].shape[1]}; give all splits the same channels"
        )
    together = np.concatenate(values)
    known = np.isfinite(together)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, together, 0.0).sum(0) / count
    square = np.where(known, (together - mean[None]) ** 2, 0.0).sum(0) / count
    deviation = np.sqrt(square)
    # What never changes is left as it is: dividing by its rounding errors would make noise of it.
    deviation = np.where(deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6), deviation, 1.0)
    return mean.astype(np.float32)[None], deviation.astype(np.float32)[None]
