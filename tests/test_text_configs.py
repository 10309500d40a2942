"""The three steps of a text recipe fit each other, and each starts from the former's checkpoint."""

import dataclasses
import importlib

import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.config import from_dict
from perceiver_jax.models.release import Release
from perceiver_jax.pretrained import open_source
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.initialisation import PretrainedConfig, initial_arrays
from perceiver_jax.train.main import train

RECIPES = [("mlm_small", "text_classifier"), ("mlm_bytes", "text_classifier_imdb")]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Rows of tokens do not go into the cache of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def experiment(name, variant=None):
    module = importlib.import_module(f"configs.{name}")
    return from_dict(ExperimentConfig, module.get_config(variant))


def taken(former, config):
    """Paths of the parameters that a run takes of the former's; the arrays need no memory."""
    structure = models.skeleton(former.model)
    found = Release(config=former.model, arrays=dict(structure.params))
    wanted = Release(config=config.model, arrays={})
    return set(initial_arrays(found, config.pretrained, wanted, models.skeleton(config.model)))


@pytest.mark.parametrize(("pretraining", "classifier"), RECIPES)
def test_each_step_takes_what_the_former_trained(pretraining, classifier):
    first = experiment(pretraining)
    frozen, finetuned = experiment(classifier), experiment(classifier, "finetune")
    paths = set(models.skeleton(frozen.model).params)
    encoder = {path for path in paths if path.startswith("encoder/")}
    assert taken(first, frozen) == encoder
    assert taken(frozen, finetuned) == paths
    assert set(frozen.optimizer.trained(paths)) == paths - encoder
    assert set(finetuned.optimizer.trained(paths)) == paths


@pytest.mark.parametrize(("pretraining", "classifier"), RECIPES)
def test_the_steps_read_the_same_tokens(pretraining, classifier):
    steps = [experiment(pretraining), experiment(classifier), experiment(classifier, "finetune")]
    for name in ("dataset", "tokenizer", "max_seq_len", "add_special_tokens"):
        assert len({getattr(step.data, name) for step in steps}) == 1


@pytest.mark.parametrize(("pretraining", "classifier"), RECIPES)
def test_the_commands_in_the_heads_name_the_workdirs_that_the_steps_start_from(
    pretraining, classifier
):
    former = importlib.import_module(f"configs.{pretraining}").__doc__
    own = importlib.import_module(f"configs.{classifier}").__doc__
    frozen, finetuned = experiment(classifier), experiment(classifier, "finetune")
    assert f"--workdir={frozen.pretrained.source}\n" in former
    for source in (frozen.pretrained.source, finetuned.pretrained.source):
        assert f"--config.pretrained.source={source} " in own
    assert f"--workdir={finetuned.pretrained.source}\n" in own


def test_a_frozen_encoder_is_that_of_the_pretrained_model_after_training(tmp_path):
    train(experiment("mlm_small", "smoke"), tmp_path / "mlm")
    config = dataclasses.replace(
        experiment("text_classifier", "smoke"),
        pretrained=PretrainedConfig(source=str(tmp_path / "mlm"), part="encoder"),
    )
    train(config, tmp_path / "frozen")
    before, after = (open_source(str(tmp_path / name)).arrays for name in ("mlm", "frozen"))
    encoder = [path for path in after if path.startswith("encoder/")]
    assert encoder
    for path in encoder:
        np.testing.assert_array_equal(before[path], after[path])
