"""Recipes of music: the published ones as published, and what a small one says of itself."""

import importlib
import re

import pytest

from perceiver_jax import models, params
from perceiver_jax.config import from_dict
from perceiver_jax.data.music import chorales, read_midi
from perceiver_jax.data.music.synthetic import SyntheticPieces
from perceiver_jax.train.config import ExperimentConfig
from tests.conftest import ROOT


def experiment(name, variant=None):
    module = importlib.import_module(f"configs.{name}")
    return module, from_dict(ExperimentConfig, module.get_config(variant))


@pytest.mark.parametrize(
    "name, count, rows, lengths",
    [
        ("symbolic_audio_maestro", 28_531_712, 192, (None, 2048)),
        ("symbolic_audio_giantmidi", 134_840_832, 32, (2048, 6144)),
    ],
)
def test_published_recipes_are_as_published(name, count, rows, lengths):
    module, config = experiment(name)
    assert params.count(models.skeleton(config.model).params) == count
    assert f"{count:,} parameters" in module.__doc__
    assert (config.data.batch_size, config.optimizer.accumulate) == (rows, 2)
    assert (config.data.min_seq_len, config.data.max_seq_len) == lengths
    assert config.data.every_velocity and config.model.remat == "full"
    assert (config.optimizer.learning_rate, config.optimizer.clip_norm) == (2e-4, 0.5)
    assert config.data.dataset.endswith(f":data/{config.data.dataset.split('/')[-1]}")
    assert config.data.dataset.split(":")[1] in module.__doc__


def test_the_chorales_are_prepared_trained_on_and_continued_by_the_commands_in_the_head():
    module, config = experiment("bach")
    assert config.data.dataset == "chorales"
    for command in (
        "python -m perceiver_jax.data.music.chorales\n",
        "--config=configs/bach.py --workdir=runs/bach\n",
        "generate-music --source=runs/bach ",
        "python -m benchmarks.music_baselines",
    ):
        assert command in module.__doc__


@pytest.mark.parametrize("place", ["configs/bach.py", "docs/autoregressive.md"])
def test_the_piece_to_continue_is_written_by_the_lines_beside_the_command(
    place, monkeypatch, tmp_path
):
    told = (ROOT / place).read_text(encoding="utf-8")
    (lines,) = re.findall(r"^python -c '([^']*\"in\.mid\"\))'\npython -m .* in\.mid ", told, re.M)
    monkeypatch.setattr(chorales, "Chorales", SyntheticPieces)
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    notes = read_midi("in.mid")
    assert notes and max(note.end for note in notes) <= 8


def test_the_baselines_count_what_the_small_model_predicts(capsys, monkeypatch):
    from benchmarks import music_baselines

    monkeypatch.setattr("sys.argv", ["music_baselines", "--help"])
    with pytest.raises(SystemExit):
        music_baselines.main()
    told, (_, config) = capsys.readouterr().out, experiment("bach")
    assert f"configs/bach.py: {config.data.max_seq_len}" in told
    assert f"configs/bach.py: {config.model.max_latents}" in told
