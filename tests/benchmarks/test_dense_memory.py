import json

import pytest

from benchmarks import dense_memory


def test_a_case_tells_seconds_and_memory(monkeypatch, capsys):
    monkeypatch.setitem(dense_memory.CASES, "flow_368x496", lambda: bytearray(300_000_000).find(1))
    monkeypatch.setattr("sys.argv", ["dense_memory", "--here", "flow_368x496"])
    dense_memory.main()
    found = json.loads(capsys.readouterr().out)
    assert found["peak"] > 300 and found["seconds"] > 0


def test_all_cases_are_measured_each_in_a_process_of_its_own(monkeypatch, capsys):
    asked = []

    def run(command, **options):
        asked.append(command[-2:])
        return type("Done", (), {"stdout": '{"peak": 1234.5, "seconds": 6.7}\n'})

    monkeypatch.setattr(dense_memory.subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["dense_memory"])
    dense_memory.main()
    assert asked == [["--here", case] for case in dense_memory.CASES]
    assert capsys.readouterr().out.count("1,234") == len(dense_memory.CASES)


def test_other_cases_are_refused(monkeypatch):
    monkeypatch.setattr("sys.argv", ["dense_memory", "flow_of_lava"])
    with pytest.raises(SystemExit):
        dense_memory.main()
