"""Texts to class names, and `python -m perceiver_jax.run sentiment`."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import run
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.errors import UserError
from perceiver_jax.pipelines import text_classification
from perceiver_jax.pipelines.text_classification import TextClassification

CARD = ModelCard(labels=("bad", "fair", "good"), text=TextPreprocessing())
LONG = "It was the best of times, it was the worst of times. " * 4


@pytest.fixture(scope="module")
def released(text_release, class_decoder):
    return text_release(class_decoder, card=CARD)


def probabilities(model, text):
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)[None] + 6
    return np.asarray(jax.nn.softmax(model(ids)))[0]


def test_labels_are_the_models_probabilities(released):
    want = probabilities(released.model(), "wonderful film")
    (found,) = TextClassification(released)(["wonderful film"], top=3)
    order = np.argsort(-want)
    assert [label for label, _ in found] == [CARD.labels[i] for i in order]
    np.testing.assert_allclose([p for _, p in found], want[order], atol=1e-6)


def test_a_long_text_is_read_in_windows(released):
    (found,) = TextClassification(released).probabilities([LONG])
    windows = ["".join(part) for part in np.array_split(list(LONG), -(-len(LONG) // 64))]
    assert len(windows) == 4
    want = np.mean([probabilities(released.model(), part) for part in windows], axis=0)
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_more_windows_than_a_batch_are_read_as_well(released):
    text = LONG * 4
    windows = ["".join(part) for part in np.array_split(list(text), -(-len(text) // 64))]
    assert len(windows) > 8
    want = np.mean([probabilities(released.model(), part) for part in windows], axis=0)
    (found,) = TextClassification(released).probabilities([text])
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_a_padded_text_is_judged_as_it_is_alone(released):
    classify = TextClassification(released)
    np.testing.assert_allclose(
        *classify.probabilities(["a"]), probabilities(released.model(), "a"), atol=1e-6
    )


def test_texts_are_read_together_and_come_out_in_order(released, monkeypatch):
    texts = [LONG[:n] for n in (5, 150, 9, 64, 200, 1, 12, 13, 14, 15, 16)]
    calls = []
    predict = text_classification._predict
    monkeypatch.setattr(text_classification, "_predict", lambda *x: calls.append(1) or predict(*x))
    classify = TextClassification(released)
    found = list(classify.probabilities(texts))
    assert len(found) == len(texts) and len(calls) == 2
    for text, row in zip(texts, found, strict=True):
        (alone,) = classify.probabilities([text])
        np.testing.assert_allclose(row, alone, atol=1e-6)


def test_an_empty_text_has_no_class(released):
    with pytest.raises(UserError, match="an empty text has no class"):
        list(TextClassification(released)([""]))


def test_other_models_are_refused(text_release, class_decoder):
    with pytest.raises(UserError, match="^a masked language model .* does not give"):
        TextClassification(text_release())
    several = dataclasses.replace(class_decoder, num_output_queries=2)
    with pytest.raises(UserError, match="^a classifier of texts .* with one output query$"):
        TextClassification(text_release(several))


def test_classes_without_names_are_numbered(text_release, class_decoder):
    (found,) = TextClassification(text_release(class_decoder))(["x"])
    assert found[0].label.startswith("class ")


def test_the_command_prints_a_line_for_each_text(released, tmp_path, capsys):
    released.save(tmp_path / "release")
    lines = tmp_path / "lines.txt"
    lines.write_text("dull\nbright\n")
    source = f"--source=ours:{tmp_path / 'release'}"
    assert run.main(["sentiment", source, "wonderful film", f"--lines={lines}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in printed] == ["wonderful film", "dull", "bright"]
    want = probabilities(released.model(), "dull")
    assert f"{want.max():7.2%}  {CARD.labels[want.argmax()]}  dull" == printed[1]


def test_a_command_without_text_says_so(released, tmp_path, capsys):
    released.save(tmp_path / "release")
    assert run.main(["sentiment", f"--source=ours:{tmp_path / 'release'}"]) == 1
    assert "there is no text" in capsys.readouterr().err
