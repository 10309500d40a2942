"""Two classic classifiers on the split that `mnist5k` and `digits` train on: what to compare with.

python benchmarks/digit_baselines.py
"""

from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from perceiver_jax.data.digits import digits, mnist5k


def main() -> None:
    """Prints held-out accuracies; pixels are scaled to [0, 1]."""
    for name, dataset in (("mnist5k", mnist5k), ("digits", digits)):
        train, test = dataset("train"), dataset("test")
        x, y = train.images.reshape(len(train), -1) / 255.0, train.labels
        held_out = test.images.reshape(len(test), -1) / 255.0, test.labels
        for label, classifier in (
            ("logistic regression", LogisticRegression(max_iter=2000)),
            ("3 nearest neighbours", KNeighborsClassifier(3)),
        ):
            accuracy = classifier.fit(x, y).score(*held_out)
            print(f"{name:<8} {label:<20} {accuracy:.1%} of {len(test)} held out")


if __name__ == "__main__":
    main()
