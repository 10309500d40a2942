"""The config of a run, and the working directory that belongs to it."""

import dataclasses
import json

import jax
import pytest

from perceiver_jax.config import ConfigError, from_dict, to_config_dict, to_dict
from perceiver_jax.data import Shard
from perceiver_jax.errors import UserError
from perceiver_jax.train.config import (
    ExperimentConfig,
    check_resumable,
    is_smoke,
    make_workdir,
    write_config,
)
from perceiver_jax.train.optim import OptimizerConfig
from tests.train.tiny_runs import experiment

CONFIG = experiment()


def test_a_run_survives_the_way_through_json_and_config_dict():
    assert from_dict(ExperimentConfig, json.loads(json.dumps(to_dict(CONFIG)))) == CONFIG
    assert from_dict(ExperimentConfig, to_config_dict(CONFIG)) == CONFIG


@pytest.mark.parametrize("field", ["num_steps", "log_every", "eval_every"])
def test_a_rhythm_of_nothing_is_refused(field):
    with pytest.raises(ValueError, match=f"{field}=0 .*must be 1 or more"):
        experiment(**{field: 0})


@pytest.mark.parametrize(
    ("part", "field", "value", "takes"),
    [
        (CONFIG, "num_steps", "100", "int"),
        (CONFIG, "peak_tflops", "much", "float or None"),
        (CONFIG.checkpoint, "every", "10", "int"),
        (CONFIG.optimizer, "learning_rate", "1e-3", "float"),
        (CONFIG.hosts, "timeout", 1.5, "int"),
        (CONFIG.pretrained, "source", 3, "str or None"),
        (CONFIG.parallel, "fsdp", "2", "int"),
    ],
)
def test_a_value_of_another_type_is_refused(part, field, value, takes):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(part, **{field: value})
    assert str(error.value) == f"{field}={value!r} is not valid; it takes {takes}"


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_generators_do_not_take_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed={seed} is not in"):
        experiment(seed=seed)


def test_the_largest_seed_gives_batches_and_keys():
    config = experiment(seed=2**32 - 1)
    batches = config.task.batches(config.data, training=True, seed=config.seed, shard=Shard())
    assert batches[0]["image"].shape == (8, 8, 8, 1)
    assert jax.random.key(config.seed).shape == ()


def test_a_batch_that_accumulation_cannot_divide_is_refused():
    with pytest.raises(ValueError, match="batch_size=8 cannot be divided into .*accumulate=3"):
        experiment(optimizer=OptimizerConfig(accumulate=3))


def test_a_new_workdir_gets_the_config_and_nothing_else(tmp_path):
    workdir = tmp_path / "new" / "run"
    make_workdir(workdir)
    assert list(workdir.iterdir()) == []
    write_config(workdir, CONFIG)
    assert [path.name for path in workdir.iterdir()] == ["config.json"]
    assert json.loads((workdir / "config.json").read_text()) == to_dict(CONFIG)


def test_what_may_change_in_a_resumed_run_may_change(tmp_path):
    longer = experiment(
        num_steps=99,
        log_every=7,
        eval_every=8,
        checkpoint=dataclasses.replace(CONFIG.checkpoint, keep_last=5),
        parallel=dataclasses.replace(CONFIG.parallel, fsdp=2),
        task=dataclasses.replace(CONFIG.task, num_shown=3),
        data={"eval_batch_size": 7, "data_dir": "elsewhere"},
    )
    check_resumable(to_dict(CONFIG), CONFIG, 12, tmp_path)
    check_resumable(to_dict(CONFIG), longer, 12, tmp_path)


def test_a_workdir_of_another_config_is_refused_with_every_difference(tmp_path):
    other = experiment(seed=1, encoder={"num_frequency_bands": 3}, data={"mean": (0.1,)})
    with pytest.raises(UserError) as error:
        check_resumable(to_dict(CONFIG), other, 3, tmp_path)
    message = str(error.value)
    assert "belongs to a run of another config" in message
    assert "config.seed: 0 there, 1 here" in message
    assert "config.model.encoder.num_frequency_bands: 2 there, 3 here" in message
    assert "config.data.mean: [0.5] there, [0.1] here" in message


def test_a_run_from_before_a_field_existed_goes_on_and_so_does_one_in_another_form(tmp_path):
    older = to_dict(CONFIG)
    del older["model"]["encoder"]["implementation"], older["log_every"]
    check_resumable(older, CONFIG, 12, tmp_path)
    check_resumable(to_dict(CONFIG), experiment(encoder={"implementation": "plain"}), 12, tmp_path)
    del older["model"]["encoder"]["num_frequency_bands"]  # here not at its default
    with pytest.raises(UserError, match="num_frequency_bands"):
        check_resumable(older, CONFIG, 12, tmp_path)


def test_a_run_that_would_end_before_its_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="is at step 12 already, past num_steps=5; raise it"):
        check_resumable(to_dict(CONFIG), experiment(num_steps=5), 12, tmp_path)


@pytest.mark.parametrize("below", [".", "run"])
def test_a_file_in_place_of_a_workdir_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to .*choose another with --workdir"):
        make_workdir(tmp_path / "file" / below)


@pytest.mark.parametrize(("variant", "smoke"), [(None, False), ("smoke", True)])
def test_the_smoke_variant_is_known(variant, smoke):
    assert is_smoke(variant) == smoke


def test_other_variants_are_refused():
    with pytest.raises(ConfigError, match="no variant 'smokee'; it has 'smoke'"):
        is_smoke("smokee")
    with pytest.raises(ConfigError, match="no variant 'tune'; it has 'smoke' and 'finetune'"):
        is_smoke("tune", "finetune")


def test_a_config_may_have_further_variants():
    assert not is_smoke("finetune", "finetune")
    assert is_smoke("smoke", "finetune")
