"""Clips on their way to Hugging Face's model, and answers on their way back, as ours has them."""

import types

import numpy as np
import pytest

from benchmarks import clip_peer, ours

SHAPES = {"audio": (2, 3, 16), "image": (2, 5, 3), "label": (2, 7)}

pytestmark = [pytest.mark.parity, pytest.mark.reference]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_frames_are_placed_channels_before_rows_and_labels_say_nothing(torch):
    rng = np.random.default_rng(0)
    clip = {"image": rng.random((2, 4, 5, 6, 3)), "audio": rng.random((2, 8, 1))}
    indices = {"image": np.array([[7, 8]]), "audio": np.array([[3]])}
    placed = clip_peer.place({"inputs": clip, "query_indices": indices}, num_classes=9)
    given, points = placed["inputs"], placed["subsampled_output_points"]
    np.testing.assert_array_equal(given["image"], clip["image"].transpose(0, 1, 4, 2, 3))
    np.testing.assert_array_equal(given["audio"], clip["audio"])
    assert given["label"].shape == (2, 9) and not given["label"].any()
    assert (points["image"].tolist(), points["audio"].tolist()) == ([7, 8], [3])
    assert points["label"] is None


def test_both_sides_put_all_modalities_into_one_array_in_the_same_order(torch):
    rng = np.random.default_rng(0)
    answers = {name: rng.random(shape) for name, shape in SHAPES.items()}
    expected = np.concatenate([answers[name].reshape(2, -1) for name in SHAPES], axis=1)
    backwards = dict(reversed(answers.items()))
    flat = ours.FORWARD["clips"](lambda **_: backwards, {})
    np.testing.assert_allclose(flat, expected, rtol=1e-6)
    # Sound comes from theirs without an axis of its own for stretches.
    tensors = {name: torch.from_numpy(array) for name, array in backwards.items()}
    tensors["audio"] = tensors["audio"].flatten(1)
    made = clip_peer.forward(lambda **_: types.SimpleNamespace(logits=tensors), {})
    np.testing.assert_array_equal(made, expected)
