"""Pages on sounds, clouds and series: their commands fit folders of files, their blocks a run.

The run that a block reads took no step: its config is that of the command.
"""

import importlib
import re
import shlex

import jax
import numpy as np
import pytest
import yaml

import perceiver_jax
from perceiver_jax import models
from perceiver_jax.config import from_dict
from perceiver_jax.train.config import ExperimentConfig, write_config
from tests.conftest import ROOT
from tests.data.audio.conftest import tone, write_wav


def csv_file(path, rng):
    rows = np.column_stack([np.arange(30), rng.standard_normal((30, 3))])
    np.savetxt(path, rows, delimiter=",", header="time,x,y,z", comments="")


def ply_file(path, rng):
    head = "ply\nformat ascii 1.0\nelement vertex 60\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header"
    np.savetxt(path, rng.standard_normal((60, 3)), header=head, comments="")


def wav_file(path, rng):
    write_wav(path, tone(rng.uniform(200, 900), 0.2))


def configured(command):
    """The config that a command of training describes."""
    options = [x[2:].split("=", 1) for x in shlex.split(command) if x.startswith("--")]
    (_, file), *changes = [(name, value) for name, value in options if name != "workdir"]
    module, _, variant = file.replace(".py", "").replace("/", ".").partition(":")
    tree = importlib.import_module(module).get_config(variant or None)
    for name, value in changes:
        tree.update_from_flattened_dict({name.partition(".")[2]: yaml.safe_load(value)})
    return from_dict(ExperimentConfig, tree)


PAGES = {
    "audio": ("new.wav", wav_file, 3),
    "point_clouds": ("new.ply", ply_file, 4),
    "time_series": ("new.csv", csv_file, 2),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_lines_of_a_page_train_on_files_and_classify_a_new_one(
    page, tmp_path, monkeypatch, capsys
):
    name, write, num_classes = PAGES[page]
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    (command, code) = re.search(
        r"## Your own.*?```shell\n(.*?)```.*?```python\n(.*?)```", text, re.S
    ).groups()
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(num_classes):
            folder = tmp_path / "DIR" / split / f"kind {label}"
            folder.mkdir(parents=True)
            write(folder / name, rng)
    write(tmp_path / name, rng)
    config = configured(command)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config.task.check(config.model, config.data)

    run = tmp_path / re.search(r"--workdir=(\S+)", command)[1]
    run.mkdir(parents=True)
    write_config(run, config)
    card = config.task.card(config.model, config.data)

    def load(workdir):
        assert workdir.resolve() == run
        model = models.build(config.model, jax.random.key(0))
        model.card = card
        return model

    monkeypatch.setattr(perceiver_jax, "load_checkpoint", load, raising=False)
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out.strip() in card.labels
    assert len(card.labels) == num_classes
