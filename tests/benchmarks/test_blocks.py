import pytest

from benchmarks import blocks
from perceiver_jax.errors import UserError

TINY = blocks.Size(4, 6, num_heads=2, num_channels=8)


def test_all_forms_are_measured_on_the_same_problem(capsys):
    blocks.measure(TINY, rounds=1)
    forward, gradients = capsys.readouterr().out.splitlines()
    assert "N 4, M 6, forward" in forward and "with gradients" in gradients
    assert "as fast as dense" in forward and "as fast as torch" in forward


def test_a_form_that_computes_something_else_is_refused(monkeypatch):
    plain = blocks.attend
    monkeypatch.setattr(blocks, "attend", lambda q, k, v, causal: plain(q, k, v))
    with pytest.raises(UserError, match="dense and of blocks differ"):
        blocks.measure(TINY, rounds=1)
