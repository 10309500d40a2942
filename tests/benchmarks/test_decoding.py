import pytest

from benchmarks import decoding
from benchmarks.cases import MODELS
from perceiver_jax.errors import UserError

COSTS = [
    decoding.Cost(512, {"ours": 0.004, "peer": 0.016}, 4.0),
    decoding.Cost(4096, {"ours": 0.005, "peer": 0.024}, 4.8),
]


def test_lengths_end_with_the_full_context_and_use_the_latents_up():
    model = MODELS[decoding.MODEL]
    stretches = [case.stretch for case in decoding.cases(model, 3)]
    lengths = [one.num_prompt_tokens + one.num_new_tokens for one in stretches]
    assert lengths == [512, 1024, 1536, 2048, 2560, 3072, 3584, 4096]
    assert {one.num_latents + one.num_new_tokens for one in stretches} == {512}
    workloads = [case.workload(model) for case in decoding.cases(model, 3)]
    assert {workload.num_alike for workload in workloads} == {64}
    assert {workload.input_shape[0] for workload in workloads} == {3}


def test_the_spread_is_that_of_the_slowest_over_the_fastest():
    assert decoding.spread(COSTS, "ours") == pytest.approx(1.25)
    assert decoding.spread(COSTS[::-1], "peer") == pytest.approx(1.5)


@pytest.mark.parity
@pytest.mark.reference
def test_every_length_is_measured():
    for package in ("torch", "perceiver"):
        pytest.importorskip(package)
    costs = decoding.measure(MODELS[decoding.MODEL].tiny(), batch_size=1, rounds=1)
    assert [cost.num_tokens for cost in costs] == [8, 16, 24, 32, 40, 48, 56, 64]
    assert all(min(cost.seconds.values()) > 0 for cost in costs)


def test_the_command_prints_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decoding, "measure", lambda model, *, batch_size, rounds: COSTS)
    path = tmp_path / "new" / "cost.png"
    decoding.main(["--plot", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "| 4,096  | 5.0 / 24.0" in printed
    assert "perceiver_jax: slowest over fastest length 1.25" in printed


@pytest.mark.parametrize("option", ["--rounds", "--batch-size"])
def test_numbers_below_one_are_refused(option):
    with pytest.raises(UserError, match=f"{option}=0 must be 1 or more"):
        decoding.main([option, "0"])
