"""Steps are traced when a file asks for it, and only then."""

import jax.numpy as jnp
import pytest

from perceiver_jax.train.trace import NUM_STEPS, Tracer


@pytest.fixture
def lines():
    return []


def traces(workdir):
    return list(workdir.glob("tensorboard/plugins/profile/*/*.xplane.pb"))


def take_steps(tracer, number):
    for _ in range(number):
        tracer.before_step()
        tracer.after_step(jnp.ones(3) + 1)


def test_nothing_is_traced_unasked(tmp_path, lines):
    with Tracer(tmp_path, lines.append) as tracer:
        take_steps(tracer, 2 * NUM_STEPS)
    assert not traces(tmp_path) and not lines


def test_as_many_steps_are_traced_as_the_file_says_and_once(tmp_path, lines):
    with Tracer(tmp_path, lines.append) as tracer:
        take_steps(tracer, 1)
        (tmp_path / "trace").write_text("3\n")
        take_steps(tracer, 2)
        assert not traces(tmp_path) and not lines
        take_steps(tracer, 1)
        assert len(traces(tmp_path)) == 1
        take_steps(tracer, 9)
    assert len(traces(tmp_path)) == 1 and not (tmp_path / "trace").exists()
    assert lines == [f"trace        {tmp_path / 'tensorboard' / 'plugins' / 'profile'}"]


@pytest.mark.parametrize(("text", "warned"), [("", False), ("soon", True), ("0", True)])
def test_without_a_number_a_few_steps_are_traced(tmp_path, lines, text, warned):
    (tmp_path / "trace").write_text(text)
    with Tracer(tmp_path, lines.append) as tracer:
        take_steps(tracer, NUM_STEPS - 1)
        assert not traces(tmp_path)
        take_steps(tracer, 1)
        assert len(traces(tmp_path)) == 1
    assert len(lines) == 1 + warned and ("names no number" in lines[0]) == warned


def test_a_run_that_stops_within_a_trace_writes_what_there_is(tmp_path, lines):
    (tmp_path / "trace").touch()
    with pytest.raises(KeyboardInterrupt), Tracer(tmp_path, lines.append) as tracer:
        take_steps(tracer, 1)
        raise KeyboardInterrupt
    assert len(traces(tmp_path)) == 1
