"""What the sentiment baselines learn from."""

import pytest

from benchmarks.sentiment_baseline import rating, texts_and_labels
from perceiver_jax.data.text import movie_snippets
from perceiver_jax.data.text.movie_snippets import MovieSnippets


@pytest.fixture
def documents(tmp_path):
    """Labelled sentences with the ratings 2.5 and -1.25."""
    path = tmp_path / "movie_snippets" / movie_snippets.FILE
    path.parent.mkdir()
    rows = [f"{i}\t{2.5 if i % 2 else -1.25}\tfilm {i}" for i in range(20)]
    path.write_text("\n".join(rows))
    return list(MovieSnippets("train", str(tmp_path), labels=True))


def test_ratings_are_those_of_the_file(documents):
    for document in documents:
        odd = int(document.text.split()[1]) % 2
        assert rating(document) == pytest.approx(2.5 if odd else -1.25)


def test_labels_are_true_for_positive_sentences(documents):
    texts, labels = texts_and_labels(documents)
    assert [int(text.split()[1]) % 2 == 1 for text in texts] == labels.tolist()
