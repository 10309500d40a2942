"""`python -m perceiver_jax.run` itself; what its tasks do, tests of pipelines know."""

import pytest

from perceiver_jax import run
from perceiver_jax.errors import UserError
from perceiver_jax.run import check_music_files

TASKS = [
    "classify-image",
    "fill-mask",
    "sentiment",
    "generate-text",
    "generate-music",
    "optical-flow",
    "evaluate-flow",
    "reconstruct",
]


def test_without_a_task_it_lists_them_a_line_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run.main([]) == 2
    said = capsys.readouterr().err
    lines = [line.split(maxsplit=1) for line in said.splitlines()]
    assert ["classify-image", "images to the most probable classes"] in lines
    assert ["generate-music", "a MIDI file to its continuation"] in lines
    listed = said.partition("TASK\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_every_task_takes_a_checkpoint_of_a_run(task, capsys):
    with pytest.raises(SystemExit):
        run.main([task, "--source=x", "--step=last"])
    assert "'last' is no number of steps, and not 'best'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "task", "hint"),
    [
        (
            ["classify-image", "--source=x", "--atention=o", "x.png"],
            "classify-image",
            "--attention",
        ),
        (["fill-mask", "--source=x", "--linse", "x.txt"], "fill-mask", "--lines"),
    ],
)
def test_a_misspelt_option_is_answered_with_the_usage_of_its_task(arguments, task, hint, capsys):
    with pytest.raises(SystemExit):
        run.main(arguments)
    said = capsys.readouterr().err
    assert said.startswith(f"usage: python -m perceiver_jax.run {task} ")
    assert said.endswith(f"; did you mean {hint}?\n")


def test_what_is_like_no_option_gets_no_suggestion(capsys):
    with pytest.raises(SystemExit):
        run.main(["generate-music", "--source=x", "--out=o.mid", "in.mid", "more.mid"])
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: more.mid\n")


def test_music_needs_a_beginning(capsys):
    with pytest.raises(SystemExit):
        run.main(["generate-music", "--source=x", "--out=o.mid"])
    assert "the following arguments are required: prompt" in capsys.readouterr().err


@pytest.mark.parametrize("name, hint", [("x.wav", "; sound goes to --render"), ("x", "")])
def test_music_is_written_as_midi(tmp_path, name, hint):
    out = tmp_path / name
    with pytest.raises(UserError, match=rf"is a MIDI file; end it in .mid or .midi{hint}$"):
        check_music_files(tmp_path / "in.mid", out, None)
    check_music_files(tmp_path / "in.mid", tmp_path / "OUT.MIDI", None)
