import numpy as np
import pytest

from benchmarks import pair
from benchmarks.cases import CASES, MODELS
from perceiver_jax.errors import UserError


class FakeWorker:
    """Answers as a worker would, and notes what was asked of whom."""

    def __init__(self, side, output, asked):
        self.side, self.output, self.asked = side, output, asked

    def ask(self, do, save=None, **request):
        self.asked.append((self.side, do, request.get("seed")))
        if save is not None:
            np.save(save, self.output)
        return {"seconds": {"ours": 2.0, "peer": 6.0}[self.side]} if do == "call" else {}


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """A function that measures with workers that have these outputs: result, what was asked."""
    monkeypatch.setattr(pair, "PAUSE", 0)
    monkeypatch.setattr(pair.weights, "write", lambda *_: (tmp_path, tmp_path))

    def run(ours, peer, rounds=3, case=CASES[0]):
        asked = []
        workers = pair.Pair(
            FakeWorker("ours", np.array(ours), asked), FakeWorker("peer", np.array(peer), asked)
        )
        return pair.measure(case, MODELS[case.model], workers, tmp_path, rounds=rounds), asked

    return run


def test_sides_take_turns_at_being_first_and_get_the_same_batches(measure):
    _, asked = measure([1.0], [1.0])
    calls = [(side, seed) for side, do, seed in asked if do == "call"]
    warm_up, timed = calls[:4], calls[4:]
    assert warm_up == [("ours", 0), ("peer", 0), ("ours", 1), ("peer", 1)]
    order = ["peer", "ours", "ours", "peer", "peer", "ours"]
    assert timed == list(zip(order, [2, 2, 3, 3, 4, 4], strict=True))


def test_a_ratio_is_the_peers_time_over_ours(measure):
    result, _ = measure([1.0], [1.0])
    assert result.ratios == (3.0, 3.0, 3.0)
    assert result.medians == {"ours": 2.0, "peer": 6.0}


def test_times_of_decoding_are_those_of_a_token(measure):
    case = next(case for case in CASES if case.kind == "decode" and case.stretch)
    result, _ = measure([1.0], [1.0], case=case)
    num_new = case.stretch.num_new_tokens
    assert result.medians == {"ours": 2.0 / num_new, "peer": 6.0 / num_new}


def test_the_difference_is_relative_to_the_largest_output(measure):
    result, _ = measure([0.0, -10.0], [0.005, -10.0])
    assert result.difference == pytest.approx(5e-4)


@pytest.mark.parametrize("ours", [[0.02, -10.0], [float("nan"), -10.0]])
def test_outputs_that_differ_fail_the_case(ours, measure):
    with pytest.raises(pair.Differs, match="outputs differ by"):
        measure(ours, [0.0, -10.0])


def test_outputs_of_another_shape_fail_the_case(measure):
    with pytest.raises(pair.Differs, match=r"shape \(1,\) and \(2,\)"):
        measure([1.0], [1.0, 1.0])


def test_ratios_are_those_of_pairs():
    # Both sides slowed down together in the second pair; the medians alone would say 3.
    result = pair.Result(
        seconds={"ours": [1.0, 4.0, 1.0], "peer": [2.0, 8.0, 3.0]}, facts={}, difference=0.0
    )
    assert result.ratios == (2.0, 2.0, 2.5)


def test_a_process_that_ends_is_an_error_in_words():
    worker = pair.Worker()
    try:
        with pytest.raises(UserError, match="ended with code 1 when asked to call"):
            worker.ask("call", seed=0)
        with pytest.raises(UserError, match="ended with code 1 when asked to memory"):
            worker.ask("memory")
    finally:
        worker.close()
