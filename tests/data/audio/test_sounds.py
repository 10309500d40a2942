import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.audio.sounds import Samples, crops
from tests.data.audio.conftest import RATE, tone

RAMP = Samples(np.arange(1000, dtype=np.float32)[None] / 1000, 100)
CROP = {"num_samples": 100, "sample_rate": 100, "num_channels": 1}


class Counted:
    """A sound that remembers what was read of it."""

    def __init__(self):
        self.reads = []

    def seconds(self):
        return RAMP.seconds()

    def read(self, start_s, *args):
        self.reads.append((start_s, args[0]))
        return RAMP.read(start_s, *args)


def test_crops_lie_from_the_beginning_to_the_end():
    found = crops(RAMP, [0.0, 0.5, 1.0], **CROP)
    assert all(x.shape == (100, 1) for x in found)
    for crop, first in zip(found, (0, 450, 900), strict=True):
        np.testing.assert_allclose(crop[:, 0], np.arange(first, first + 100) / 1000, rtol=1e-6)


def test_overlapping_crops_are_read_at_once_and_are_the_same():
    sound = Counted()
    together = crops(sound, np.linspace(0, 1, 16), **CROP)
    assert sound.reads == [(0.0, 1000)]
    for place, crop in zip(np.linspace(0, 1, 16), together, strict=True):
        np.testing.assert_array_equal(crop, crops(RAMP, [place], **CROP)[0])


def test_crops_far_apart_are_read_alone():
    sound = Counted()
    crops(sound, [0.0, 1.0], **CROP)
    assert sound.reads == [(0.0, 100), (9.0, 100)]


def test_a_short_sound_is_followed_by_silence():
    short = Samples(np.ones((1, 30), np.float32), 100)
    for crop in crops(short, [0.0, 1.0], **CROP):
        assert (crop[:30] == 1).all() and not crop[30:].any()


def test_a_sound_without_length_is_refused():
    with pytest.raises(DatasetError, match="is empty"):
        crops(Samples(np.zeros((1, 0), np.float32), 100), [0.0], **CROP)


def test_samples_are_resampled_and_mixed():
    left, right = tone(440, 1.0, 48_000), tone(660, 1.0, 48_000)
    sound = Samples(np.stack([left, right]), 48_000)
    half = sound.read(0.25, RATE // 2, RATE, 2)
    want = np.stack([tone(440, 1.0), tone(660, 1.0)], 1)[RATE // 4 : 3 * RATE // 4]
    np.testing.assert_allclose(half, want, atol=0.01)
    np.testing.assert_allclose(sound.read(0.25, RATE // 2, RATE, 1)[:, 0], want.mean(1), atol=0.01)


def test_what_is_louder_than_full_is_cut_off():
    loud = Samples(np.array([[3.0, -3.0, 0.5]], np.float32), 3)
    np.testing.assert_array_equal(loud.read(0, 3, 3, 1)[:, 0], [1.0, -1.0, 0.5])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            np.zeros(9, np.float32),
            r"shape \(9,\) and type float32; expected \[channels, n\] floats",
        ),
        (np.zeros((1, 9), np.int16), r"shape \(1, 9\) and type int16; expected"),
    ],
)
def test_samples_of_another_form_are_an_error(samples, message):
    with pytest.raises(DatasetError, match=message):
        Samples(samples, 100)
