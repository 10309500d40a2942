import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import LabelHead, LabelInputAdapter


def test_a_class_is_one_token_with_a_channel_for_each_class():
    tokens = LabelInputAdapter(num_classes=4)(np.array([2, 0]))
    assert tokens.content.shape == (2, 1, 4)
    np.testing.assert_array_equal(tokens.dense()[:, 0], np.eye(4)[[2, 0]])


def test_a_distribution_is_taken_as_it_is():
    distribution = np.array([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]], np.float32)
    tokens = LabelInputAdapter(num_classes=3)(distribution)
    np.testing.assert_array_equal(tokens.dense()[:, 0], distribution)


def test_whole_numbers_for_all_classes_become_floats():
    tokens = LabelInputAdapter(num_classes=3)(np.array([[0, 1, 0]]))
    assert jnp.issubdtype(tokens.content.dtype, jnp.floating)
    np.testing.assert_array_equal(tokens.dense()[0, 0], [0, 1, 0])


@pytest.mark.parametrize(
    "labels", [np.zeros((2, 4)), np.zeros(2), np.zeros((2, 1, 3)), np.zeros((), int)]
)
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match=r"neither \[batch\] whole numbers nor \[batch, 3\]"):
        LabelInputAdapter(num_classes=3)(labels)


def test_one_query_is_learned_and_its_answer_becomes_logits(float64, random_model):
    head = random_model(
        lambda: LabelHead(num_classes=5, num_query_channels=3, num_features=4, rngs=nnx.Rngs(0))
    )
    queries = head.queries()
    assert queries.num_channels == head.num_query_channels == 3
    np.testing.assert_array_equal(queries.dense()[0], head.query[...])
    answers = np.random.default_rng(0).normal(size=(2, 1, 4))
    logits = head.whole(head(answers))
    wanted = answers[:, 0] @ np.asarray(head.linear.kernel[...]) + np.asarray(head.linear.bias[...])
    np.testing.assert_allclose(logits, wanted, rtol=1e-12)
