"""Two classic classifiers of mixes of instruments: what to compare `configs/instruments.py` with.

python -m benchmarks.instrument_baselines

- A mix is told by the mean and the standard deviation over time of each band of its spectrogram,
  which has the settings of `configs/instruments.py:mel`.
- Mean average precision is of the held-out mixes, whose instruments are new, and of as many new
  mixes of the instruments trained on. The models see many more mixes in training.
"""

import argparse

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from configs import instruments
from perceiver_jax.config import from_dict
from perceiver_jax.data import AudioDataConfig, Source


def features(
    data: AudioDataConfig, source: Source, first: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """[count, 2 m] means and deviations of mel bands, and [count, classes] bool labels."""
    examples = [data.prepare(source[i], None) for i in range(first, first + count)]
    inputs = np.stack([example["inputs"] for example in examples])
    labels = np.stack([example["label"] for example in examples])
    return np.concatenate([inputs.mean(1), inputs.std(1)], axis=1), labels


def main() -> None:
    """Prints mean average precisions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_mixes", type=int, default=8192, help="to train on")
    options = parser.parse_args()
    data = from_dict(AudioDataConfig, instruments.get_config("mel").data)
    known, new = data.open(data.train_split), data.open(data.eval_split)
    train = features(data, known, 0, options.num_mixes)
    held_out = {
        "new instruments": features(data, new, 0, len(new)),
        "known instruments": features(data, known, options.num_mixes, len(new)),
    }
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    trees = ExtraTreesClassifier(300, min_samples_leaf=2, random_state=0)
    for name, classifier in (
        ("logistic regression", OneVsRestClassifier(linear).fit(*train)),
        ("300 random trees", OneVsRestClassifier(trees).fit(*train)),
    ):
        for which, (inputs, labels) in held_out.items():
            scores = classifier.predict_proba(inputs)
            precision = average_precision_score(labels, scores, average="macro")
            chance = f"always the same {labels.mean():.1%}"
            print(f"{name:<20} {which:<18} {precision:.1%} of {len(labels):,} ({chance})")


if __name__ == "__main__":
    main()
