"""Every config that comes with the library builds, survives JSON, and trains three steps."""

import importlib
import json
import math

import pytest

from perceiver_jax import models, params
from perceiver_jax.config import from_dict, to_config_dict, to_dict
from perceiver_jax.train.command_line import shipped_configs
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import read_rows

CONFIGS = list(shipped_configs())
COUNTS = {
    "audioset": 107_419_677,
    "clm_bytes": 30_563_078,
    "clm_c4": 453_950_720,
    "imagenet_a": 48_440_627,
    "imagenet_learned": 62_255_848,
    "imagenet_conv": 48_646_522,
    "mnist": 907_212,
    "mnist_image_token": 28_731_338,
    "mlm_bytes": 201_108_230,
    "text_classifier_imdb": 200_587_010,
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Rows of tokens do not go into the cache of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=CONFIGS)
def name(request):
    return request.param


def load(name, variant=None):
    module = importlib.import_module(f"configs.{name}")
    return module, module.get_config(variant)


def test_the_published_models_are_among_the_configs():
    assert {*COUNTS, "mnist5k", "digits"} <= set(CONFIGS)


def test_a_config_builds_and_has_the_parameters_it_says(name):
    module, tree = load(name)
    config = from_dict(ExperimentConfig, tree)
    count = params.count(models.skeleton(config.model).params)
    if name in COUNTS:
        assert count == COUNTS[name]
        assert f"{count:,} parameters" in module.__doc__
    assert config.num_steps > 3


@pytest.mark.parametrize("variant", [None, "smoke"])
def test_a_config_survives_config_dict_and_json(name, variant):
    _, tree = load(name, variant)
    config = from_dict(ExperimentConfig, tree)
    assert from_dict(ExperimentConfig, to_config_dict(config)) == config
    assert from_dict(ExperimentConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_the_head_of_a_config_gives_its_command_line(name):
    module, _ = load(name)
    assert f"python -m perceiver_jax.train.main --config=configs/{name}.py" in module.__doc__


def test_the_smoke_variant_of_a_config_trains_three_steps(name, tmp_path):
    _, tree = load(name, "smoke")
    held_out = train(from_dict(ExperimentConfig, tree), tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert math.isfinite(held_out["loss"])
    assert (tmp_path / "checkpoints" / "3").is_dir()
