"""Motions and their inverses."""

import dataclasses

import numpy as np
import pytest

from perceiver_jax.data.flow.motion import TOLERANCE, Motion, Rectangle, random_motion

REGION = Rectangle(-7, 11, 45, 38)


def definition(motion, points):
    """Where points [n, 2] go, in double precision, by the formula."""
    added = motion.shift + (points - motion.centre) @ motion.linear.T
    for height, frequency, phase in zip(
        motion.heights, motion.frequencies, motion.phases, strict=True
    ):
        added = added + height * np.sin(points @ frequency + phase)[:, None]
    return points + added


def pixels(region):
    x, y = np.meshgrid(
        np.arange(region.left, region.left + region.width),
        np.arange(region.top, region.top + region.height),
    )
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(float)


@pytest.fixture(params=range(8))
def motion(request):
    rng = np.random.default_rng(request.param)
    return random_motion(rng.uniform(0, 300, 2), 60.0, rng)


def test_displacements_are_those_of_the_formula(motion):
    points = pixels(REGION)
    want = definition(motion, points)
    got = motion.displacement(REGION)
    assert got.shape == (38, 45, 2) and got.dtype == np.float32
    np.testing.assert_allclose(got.reshape(-1, 2), want - points, atol=1e-4)
    np.testing.assert_allclose(motion.forward(points), want, atol=1e-4)


@pytest.mark.parametrize("region", [REGION, Rectangle(0, 0, 300, 200), Rectangle(250, -9, 1, 3)])
def test_the_inverse_leads_back_to_every_pixel(motion, region):
    x, y = motion.inverse(region)
    assert x.shape == y.shape == (region.height, region.width)
    there = definition(motion, np.stack([x, y], axis=-1).reshape(-1, 2).astype(float))
    assert np.abs(there - pixels(region)).max() < TOLERANCE


def test_the_steepest_motions_have_inverses_too():
    class Highest:
        """A random generator whose every number is the highest."""

        def uniform(self, low, high, size=None):
            return high if size is None else np.full(size, high, float)

        def random(self):
            return 1.0

        def dirichlet(self, alpha):
            return np.eye(len(alpha))[0]

    steepest = random_motion(np.array([250.0, 180.0]), 80.0, Highest())
    for sign in (1, -1):
        motion = dataclasses.replace(steepest, linear=sign * steepest.linear)
        region = Rectangle(0, 0, 496, 368)
        back = np.stack(motion.inverse(region), axis=-1).reshape(-1, 2).astype(float)
        assert np.abs(definition(motion, back) - pixels(region)).max() < TOLERANCE


def test_what_a_motion_adds_is_scaled(motion):
    half = motion.scaled(0.5)
    np.testing.assert_allclose(
        half.displacement(REGION), motion.displacement(REGION) / 2, atol=1e-4
    )


def test_a_motion_that_folds_is_an_error():
    folding = Motion(
        centre=np.zeros(2),
        linear=np.zeros((2, 2)),
        shift=np.zeros(2),
        heights=np.array([[30.0, 0.0]]),
        frequencies=np.array([[0.2, 0.0]]),
        phases=np.zeros(1),
    )
    with pytest.raises(ArithmeticError, match="no inverse"):
        folding.inverse(REGION)


def test_rectangles_meet():
    a, b = Rectangle(-5, 2, 10, 10), Rectangle(0, 0, 4, 5)
    assert a.intersection(b) == Rectangle(0, 2, 4, 3)
    assert a.intersection(b).within(a) == (slice(0, 3), slice(5, 9))
    assert a.intersection(Rectangle(5, 0, 3, 3)).empty
