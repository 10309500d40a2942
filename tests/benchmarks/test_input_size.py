import pytest

from benchmarks import input_size


def cost(num_tokens, seconds):
    return input_size.Cost(
        num_tokens=num_tokens, seconds=seconds, temporary_bytes=5_000_000, dense_bytes=num_tokens
    )


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_is_that_of_the_power_law(power):
    costs = [cost(n, 3e-9 * n**power) for n in (10, 100, 1000)]
    assert input_size.exponent(costs) == pytest.approx(power)


def test_the_line_has_a_constant_and_a_slope():
    costs = [cost(n, 0.05 + 8e-7 * n) for n in (10_000, 100_000, 1_000_000)]
    assert input_size.line(costs) == pytest.approx((0.05, 8e-7, 0.0), abs=1e-9)


def test_the_line_is_fitted_by_relative_errors():
    # By absolute ones, the small sizes would count for nothing: it would miss the first by 500 %.
    bent = [cost(10_000, 0.01), cost(100_000, 0.2), cost(1_000_000, 1.0)]
    assert input_size.line(bent)[2] == pytest.approx(0.414, abs=0.001)


def test_sizes_are_measured_in_their_order():
    small, large = input_size.measure((4, 6), rounds=1, num_latents=8)
    assert (small.num_tokens, large.num_tokens) == (16, 36)
    assert (small.dense_bytes, large.dense_bytes) == (16 * 261 * 4, 36 * 261 * 4)
    assert min(small.seconds, small.temporary_bytes) > 0


def test_the_command_prints_and_draws(tmp_path, monkeypatch, capsys):
    costs = [cost(10_000, 0.06), cost(1_000_000, 1.05)]
    monkeypatch.setattr(input_size, "measure", lambda sides, *, rounds: costs)
    path = tmp_path / "new" / "cost.png"
    input_size.main(["--plot", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "time: 50 ms + 1.00 µs per token, within 0%" in printed
    assert "as a power of the number of tokens: 0.62" in printed
    assert "| 1,000,000 | 1,050 | 5.0" in printed
