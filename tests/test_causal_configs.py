"""DeepMind's autoregressive recipes: as published, and refused where model and data part."""

import dataclasses
import importlib

import pytest

from perceiver_jax import models, params
from perceiver_jax.config import from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.train.config import ExperimentConfig


def experiment(name, variant=None):
    module = importlib.import_module(f"configs.{name}")
    return module, from_dict(ExperimentConfig, module.get_config(variant))


@pytest.mark.parametrize(
    "name, count, rows, num_tokens, least, warmup",
    [
        ("ar_copy_131k", 223_976_707, 4096, 131_071, 65_536, 1000),
        ("ar_imagenet64", 770_094_339, 2048, 12_288, 1024, 10_000),
    ],
)
def test_published_recipes_are_as_published(name, count, rows, num_tokens, least, warmup):
    module, config = experiment(name)
    assert params.count(models.skeleton(config.model).params) == count
    assert f"{count:,} parameters" in module.__doc__
    assert (config.model.max_latents, config.model.residual_dropout) == (1024, 0.1)
    assert config.data.batch_size == rows and config.data.random_min_seq_len == least
    assert num_tokens <= config.model.max_seq_len
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate) == ("adam", 3e-4)
    assert optimizer.warmup_steps == warmup
    # Of a mean over rows and latents, where the published ones are of a sum.
    assert (optimizer.clip_norm, optimizer.epsilon) == (1 / (rows * 1024), 1e-8 / (rows * 1024))
    assert config.task.z_loss == 1e-4
    config.task.check(config.model, config.data)


def test_the_fixed_table_of_the_copy_task_is_no_part_of_the_optimizer():
    _, config = experiment("ar_copy_131k")
    paths = models.skeleton(config.model).params
    trained = config.optimizer.trained(paths, fixed=models.fixed_parameters(config.model))
    assert set(paths) - set(trained) == {"input_adapter/position_embedding/0"}


@pytest.mark.parametrize(
    "model, data, message",
    [
        ({"position_shape": (66, 65, 5)}, {}, r"position_shape=\(66, 65, 5\); set .*\(66, 66, 5\)"),
        ({"position_shape": (66, 66)}, {}, r"position_shape=\(66, 66\)"),
        ({"max_latents": 256}, {}, "max_latents=256 does not predict blocks of 512"),
        ({"vocab_size": 256}, {}, "this data has 259 ids, the model 256"),
        ({}, {"image_shape": (80, 80, 3)}, "rows have 19,200 tokens, the model takes 12,416"),
    ],
)
def test_images_that_do_not_go_with_the_model_are_refused(model, data, message):
    _, config = experiment("ar_imagenet64")
    model = dataclasses.replace(config.model, **model)
    with pytest.raises(UserError, match=message):
        config.task.check(model, dataclasses.replace(config.data, **data))


def test_one_table_counts_the_values_of_images():
    _, config = experiment("ar_imagenet64")
    config.task.check(dataclasses.replace(config.model, position_shape=None), config.data)


def test_several_positions_belong_to_images():
    _, config = experiment("ar_copy_131k")
    sizes = {"position_shape": (9, 9), "first_position": 0}
    with pytest.raises(UserError, match=r"position_shape=\(9, 9\) takes several positions"):
        config.task.check(dataclasses.replace(config.model, **sizes), config.data)
