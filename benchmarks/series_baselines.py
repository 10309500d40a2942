"""Two classic classifiers of the series that `japanese_vowels` trains on: what to compare with.

python benchmarks/series_baselines.py

- The series are those of the config, normalised; of `irregular` the held-out ones have the very
  steps that the model sees.
- Dynamic time warping sums squared distances of all channels, without a window and without times.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression

from configs.japanese_vowels import get_config
from perceiver_jax.config import from_dict
from perceiver_jax.data import TimeSeriesDataConfig
from perceiver_jax.data.labelled import open_split
from perceiver_jax.train.config import ExperimentConfig


def main() -> None:
    """Prints held-out accuracies."""
    for variant in (None, "irregular"):
        data = from_dict(ExperimentConfig, get_config(variant)).data
        assert isinstance(data, TimeSeriesDataConfig)
        train, labels = read(data, data.train_split)
        held_out, truth = read(data, data.eval_split)
        regression = LogisticRegression(max_iter=2000)
        regression.fit(np.stack([summary(x) for x in train]), labels)
        accuracies = {
            "logistic regression": regression.score(
                np.stack([summary(x) for x in held_out]), truth
            ),
            "1 nearest neighbour": (nearest(train, labels, held_out) == truth).mean(),
        }
        for name, accuracy in accuracies.items():
            print(f"{variant or 'all steps':<10} {name:<20} {accuracy:.1%} of {len(truth)}")


def read(data: TimeSeriesDataConfig, split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """[n, c] values of each series, without padding, and their labels."""
    source = open_split(data, split)
    made = [data.prepare(source[i], None) for i in range(len(source))]
    values = [x["inputs"]["values"][x["input_mask"]] for x in made]
    return values, np.array([x["label"] for x in made])


def summary(values: np.ndarray) -> np.ndarray:
    """[2 c] mean and deviation of each channel."""
    return np.concatenate([values.mean(0), values.std(0)])


def nearest(train: list[np.ndarray], labels: np.ndarray, held_out: list[np.ndarray]) -> np.ndarray:
    """The label of the nearest training series by dynamic time warping, of each held-out one."""
    lengths = np.array([len(x) for x in train])
    together = np.stack([np.pad(x, ((0, lengths.max() - len(x)), (0, 0))) for x in train])
    return labels[[warped(x, together, lengths).argmin() for x in held_out]]


def warped(one: np.ndarray, others: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[k] distances by dynamic time warping.

    Args:
        one: [n, c].
        others: [k, m, c], padded.
        lengths: [k] real steps of the others.
    """
    squares = ((one[None, :, None] - others[:, None]) ** 2).sum(-1)
    cost = np.full((len(others), len(one) + 1, others.shape[1] + 1), np.inf)
    cost[:, 0, 0] = 0.0
    for i in range(len(one)):
        for j in range(others.shape[1]):
            steps = np.minimum(np.minimum(cost[:, i, j], cost[:, i, j + 1]), cost[:, i + 1, j])
            cost[:, i + 1, j + 1] = squares[:, i, j] + steps
    return cost[np.arange(len(others)), len(one), lengths]


if __name__ == "__main__":
    main()
