"""Utilisation is that of the stated peak, and nothing is said where there is none."""

import jax
import numpy as np
import pytest

from perceiver_jax.train.device_meter import DeviceMeter
from perceiver_jax.train.model_flops import model_flops
from tests.train.tiny_runs import experiment

BATCH = {"image": np.zeros((8, 8, 8, 1), np.float32), "label": np.zeros(8, np.int32)}


def test_utilisation_is_the_part_of_a_stated_peak():
    config = experiment(peak_tflops=0.5)
    [(name, part)] = DeviceMeter(config, BATCH).row(steps_per_s=100.0).items()
    assert name == "perf/model_flops_utilisation"
    assert part == pytest.approx(100.0 * model_flops(config, BATCH) / 0.5e12)


def test_a_device_without_a_known_peak_has_no_utilisation():
    assert jax.devices()[0].device_kind == "cpu"
    assert DeviceMeter(experiment(), BATCH).row(steps_per_s=100.0) == {}


@pytest.mark.parametrize("peak", [0.0, float("inf")])
def test_an_impossible_peak_is_refused(peak):
    with pytest.raises(ValueError, match=r"peak_tflops=.* must be finite and above 0"):
        experiment(peak_tflops=peak)
