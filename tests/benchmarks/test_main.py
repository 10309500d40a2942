import dataclasses
import json

import pytest

from benchmarks import __main__ as command
from benchmarks import pair, report
from benchmarks.cases import CASES, MODELS
from benchmarks.peers import PEERS
from perceiver_jax.errors import UserError

RESULT = pair.Result(
    seconds={"ours": [0.01, 0.01], "peer": [0.06, 0.06]},
    facts={
        "ours": {
            "num_parameters": 5,
            "num_threads": 2,
            "temporary_bytes": 4_500_000,
            "lower_seconds": 0.42,
            "compile_seconds": 3.14,
            "peak_bytes": 400_000_000,
        },
        "peer": {"num_parameters": 5, "num_threads": 1, "peak_bytes": None},
    },
    difference=1.2e-6,
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs the command on cases that measure nothing: exit code, JSON."""

    class NoWorkers:
        def __enter__(self):
            return None

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(pair, "start", NoWorkers)

    def call(outcomes, *arguments):
        def measure(case, model, workers, folder, *, rounds):
            outcome = outcomes[case.kind]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(pair, "measure", measure)
        out = tmp_path / "new" / "results.json"
        code = command.main([*arguments, "--out", str(out)])
        return code, json.loads(out.read_text())

    return call


def test_results_are_printed_and_written(run, capsys):
    code, tree = run({"cross_attention": RESULT}, "*/cross_attention/*", "--rounds", "2")
    assert code == 0
    case = tree["cases"][0]
    assert case["name"] == CASES[0].name
    assert (case["ratio"], case["reached"], case["peer"]) == (6.0, "must", "krasserm")
    assert case["seconds"] == RESULT.seconds
    assert case["facts"]["ours"]["temporary_bytes"] == 4_500_000
    assert tree["versions"]["jax"]
    assert tree["machine"]["num_cores"] >= 1
    row = next(
        r for r in capsys.readouterr().out.splitlines() if r.startswith(f"| {CASES[0].name}")
    )
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == [
        "10.0 / 60.0",
        "6.00",
        "6.00 – 6.00",
        "5",
        "8",
        "must",
        "2 / 1",
        "400 / ?",
        "4.5",
        "1e-06",
        "0.4 + 3.1",
    ]


def test_what_is_compiled_when_it_is_called_has_no_times_of_compilation(run, capsys):
    facts = RESULT.facts | {
        "ours": {"num_parameters": 5, "num_threads": 2, "peak_bytes": 400_000_000}
    }
    decoded = dataclasses.replace(RESULT, facts=facts)
    code, _ = run({"decode": decoded}, "causal_bytes/decode_1024+128/*")
    assert code == 0
    row = next(r for r in capsys.readouterr().out.splitlines() if r.startswith("| causal_bytes"))
    assert [cell.strip() for cell in row.strip("|").split("|")][-3:] == ["?", "1e-06", ""]


def test_a_case_that_fails_is_loud_and_the_others_are_run(run, capsys):
    outcomes = {"cross_attention": UserError("they differ"), "forward": RESULT}
    code, tree = run(outcomes, "imagenet_a/cross_attention/*", "imagenet_a/forward/*")
    assert code == 1
    assert [case.get("failure") for case in tree["cases"]] == ["they differ"] * 2 + [None] * 3
    assert f"{CASES[0].name}: FAILED, they differ" in capsys.readouterr().out


def test_patterns_choose_cases():
    assert [case.name for case in command.chosen(["mnist/*"])] == [
        "mnist/train_step/b64/krasserm",
        "mnist/train_step/b128/krasserm",
    ]
    assert command.chosen(["*"]) == list(CASES)
    with pytest.raises(UserError, match="no case matches 'minst'; there are"):
        command.chosen(["*", "minst"])


def test_no_rounds_are_refused():
    with pytest.raises(UserError, match="--rounds=0"):
        command.main(["--rounds", "0"])


@pytest.mark.parametrize(
    ("ratio", "word"), [(9.0, "aim"), (8.0, "aim"), (5.0, "must"), (4.9, "NO")]
)
def test_a_ratio_is_held_against_what_was_wanted(ratio, word):
    assert (CASES[0].must, CASES[0].aim) == (5, 8)
    assert report.reached(CASES[0], ratio) == word


def test_nothing_is_reached_where_nothing_was_wanted():
    assert CASES[1].must is None
    assert report.reached(CASES[1], 0.1) == ""


def test_every_case_names_a_model_and_a_peer_and_has_a_name_of_its_own():
    assert {case.model for case in CASES} <= MODELS.keys()
    assert {case.peer for case in CASES} <= PEERS.keys()
    assert len({case.name for case in CASES}) == len(CASES)
