import jax
import numpy as np

from perceiver_jax.train.queries import draw_queries


def test_each_is_drawn_at_most_once_and_all_as_often():
    drawn = np.stack([draw_queries(3, 8, jax.random.key(i))[0] for i in range(400)])
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    counts = np.bincount(drawn.ravel(), minlength=8)
    np.testing.assert_allclose(counts, 150, atol=45)


def test_all_are_all():
    assert sorted(draw_queries(5, 5, jax.random.key(0))[0].tolist()) == [0, 1, 2, 3, 4]
