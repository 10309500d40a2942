"""The least time of a step, against sums by hand, and the accelerators that are known."""

import collections

import pytest

from perceiver_jax.errors import UserError
from perceiver_jax.train import accelerators
from perceiver_jax.train.accelerators import ACCELERATORS, Accelerator, IdealTime, ideal_time
from perceiver_jax.train.program_costs import Collective, Costs

CHIP = Accelerator(
    kinds=("Chip",),
    bfloat16=100.0,
    float32=50.0,
    memory=10.0,
    memory_bandwidth=1000.0,
    link=100.0,
    pod=4,
    network=10.0,
)


def exchange(kind, gigabytes, devices, times=1):
    collective = Collective(kind, round(gigabytes * 1e9), tuple(devices))
    return Costs(collectives=collections.Counter({collective: times}))


def links(costs, chip=CHIP):
    return ideal_time(chip, costs, moved_bytes=0).links


def test_products_run_at_the_peak_of_their_type():
    costs = Costs(flops=collections.Counter({"bf16": 50e12, "f32": 5e12}))
    time = ideal_time(CHIP, costs, moved_bytes=200e9)
    assert vars(time) == pytest.approx({"compute": 0.6, "memory": 0.2, "links": 0.0})


@pytest.mark.parametrize(
    ("numbers", "limit"),
    [((3.0, 2.0, 1.0), "compute"), ((1.0, 3.0, 2.0), "memory"), ((1.0, 2.0, 3.0), "links")],
)
def test_the_longest_part_is_the_limit(numbers, limit):
    time = IdealTime(*numbers)
    assert (time.total, time.limit) == (3.0, limit)


def test_a_pod_sums_at_the_bandwidth_of_its_links():
    assert links(exchange("all-reduce", 2.0, range(4), times=3)) == pytest.approx(3 * 2 * 1.5 / 100)
    assert links(exchange("all-gather", 2.0, (0, 2))) == pytest.approx(2 * 0.5 / 100)


def test_between_pods_each_chip_sends_its_share_over_the_network():
    inside, between = 2 * 1.5 / 100, 2 / 4 * 1.0 / 10
    assert links(exchange("all-reduce", 2.0, range(8))) == pytest.approx(inside + between)
    # One chip of each pod: nothing is shared.
    assert links(exchange("all-reduce", 2.0, (0, 4))) == pytest.approx(2 * 1.0 / 10)


def test_pods_with_no_known_network_are_refused_only_where_it_is_needed():
    pods = Accelerator(**(vars(CHIP) | {"network": None}))
    assert links(exchange("all-reduce", 2.0, range(4)), pods) > 0
    with pytest.raises(UserError, match="8 devices are more than the 4 of a pod"):
        links(exchange("all-reduce", 2.0, range(8)), pods)


def test_an_unknown_accelerator_lists_the_known_ones():
    assert accelerators.find("h200") is ACCELERATORS["h200"]
    with pytest.raises(UserError, match="no accelerator is called 'h300'; there are h200, h100,"):
        accelerators.find("h300")


def test_a_device_is_known_by_what_jax_calls_it():
    assert accelerators.of_kind("TPU v5 lite") is ACCELERATORS["tpu_v5e"]
    assert accelerators.of_kind("TPU v5") is ACCELERATORS["tpu_v5p"]
    assert accelerators.of_kind("cpu") is None
    kinds = [kind for chip in ACCELERATORS.values() for kind in chip.kinds]
    assert len(set(kinds)) == len(kinds)
