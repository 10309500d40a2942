"""Bags of words on the split that `text_classifier` trains on: what to compare it with.

python benchmarks/sentiment_baseline.py

- TF-IDF with logistic regression on the labels, C being the inverse of its regularisation: on the
  split, and as the mean of three folds over all labelled sentences. With words and pairs, C=10 and
  the sentences in the order of their file, the folds give 79.6 %.
- Ridge regression reads the same features and learns, as `soft_labels` does, from the ratings
  behind the labels.
"""

import math
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from perceiver_jax.data.text.documents import Document
from perceiver_jax.data.text.movie_snippets import MovieSnippets

FEATURES: dict[str, dict[str, Any]] = {
    "words": {},
    "words and pairs": {"ngram_range": (1, 2), "sublinear_tf": True, "min_df": 2},
}


def main() -> None:
    """Prints held-out accuracies."""
    train, test = (list(MovieSnippets(split, labels=True)) for split in ("train", "test"))
    (texts, labels), (held_out, real) = texts_and_labels(train), texts_and_labels(test)
    print(f"{len(train):,} sentences to train on, {len(test):,} held out")
    for name, options in FEATURES.items():
        for c in (1.0, 10.0):
            logistic = make_pipeline(
                TfidfVectorizer(**options), LogisticRegression(C=c, max_iter=1000)
            )
            folds = cross_val_score(logistic, texts + held_out, np.append(labels, real), cv=3)
            accuracy = logistic.fit(texts, labels).score(held_out, real)
            kind = f"logistic regression, C={c:.0f}"
            print(f"{name:<16} {kind:<28} {accuracy:.1%}, three folds {folds.mean():.1%}")
        ridge = make_pipeline(TfidfVectorizer(**options), Ridge())
        predicted = ridge.fit(texts, [rating(document) for document in train]).predict(held_out)
        accuracy = np.mean((predicted > 0) == real)
        print(f"{name:<16} {'ridge regression of ratings':<28} {accuracy:.1%}")


def texts_and_labels(documents: list[Document]) -> tuple[list[str], np.ndarray]:
    """Texts, and whether they are positive."""
    labels = np.array([document.label == 1 for document in documents])
    return [document.text for document in documents], labels


def rating(document: Document) -> float:
    """The mean rating, out of the probability that the dataset makes of it."""
    assert document.target is not None
    negative, positive = document.target
    return math.log(positive / negative)


if __name__ == "__main__":
    main()
