"""Pretrain, train a new decoder on the frozen encoder, unfreeze: whole runs one from the other."""

import contextlib
import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest

from perceiver_jax import load_checkpoint, params
from perceiver_jax.errors import UserError
from perceiver_jax.pretrained import open_source
from perceiver_jax.train import state
from perceiver_jax.train.config import CARD
from perceiver_jax.train.evaluate import evaluate
from perceiver_jax.train.initialisation import PretrainedConfig
from perceiver_jax.train.main import train
from perceiver_jax.train.optim import OptimizerConfig, make_optimizer
from tests.train.tensorboard_files import events
from tests.train.tiny_texts import classifier, language_model

SAMPLE = "The happy [MASK]at"
FROZEN = OptimizerConfig(learning_rate=0.01, weight_decay=0.1, frozen=("^encoder/",))


def pretrained(source, part="model"):
    return PretrainedConfig(source=str(source), part=part)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("transfer")


def printed_by_training(config, workdir):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        train(config, workdir)
    return printed.getvalue()


@pytest.fixture(scope="module")
def first_and_printed(folder):
    """The workdir of the language model, and what training it printed."""
    config = language_model(folder / "rows", task={"predict_samples": (SAMPLE,)})
    return folder / "mlm", printed_by_training(config, folder / "mlm")


@pytest.fixture(scope="module")
def first(first_and_printed):
    return first_and_printed[0]


@pytest.fixture(scope="module")
def second_and_printed(folder, first):
    """The workdir of the classifier with the frozen encoder, and what training it printed."""
    config = classifier(folder / "rows", pretrained=pretrained(first, "encoder"), optimizer=FROZEN)
    return folder / "frozen", printed_by_training(config, folder / "frozen")


@pytest.fixture(scope="module")
def second(second_and_printed):
    return second_and_printed[0]


def values(workdir):
    return params.flatten(load_checkpoint(workdir))[0]


def test_a_frozen_encoder_stays_what_it_was(first, second):
    before, after = values(first), values(second)
    for path, array in after.items():
        if path.startswith("encoder/"):
            np.testing.assert_array_equal(array, before[path], err_msg=path)


def test_what_is_not_frozen_is_trained(folder, second):
    from perceiver_jax import models

    fresh = models.build(classifier(folder).model, jax.random.key(0))
    before, after = params.flatten(fresh)[0], values(second)
    same = {p for p in after if np.array_equal(before[p], after[p])}
    # Keys of one query's decoder have a bias that changes nothing.
    assert not {path for path in same if not path.startswith("encoder/")} - {
        "decoder/cross_attention/attention/key/bias"
    }


def test_frozen_parameters_have_no_optimizer_state(folder):
    config = classifier(folder, optimizer=FROZEN)
    from perceiver_jax import models

    build = lambda: models.build(config.model, jax.random.key(0))  # noqa: E731
    trained = FROZEN.trained(models.skeleton(config.model).params)
    made = jax.eval_shape(lambda: state.create(build, make_optimizer(FROZEN, 4), trained))
    kept = {
        key.key
        for path, _ in jax.tree_util.tree_leaves_with_path(made.opt_state)
        for key in path
        if "/" in str(getattr(key, "key", ""))
    }
    assert kept == set(trained) and not any(path.startswith("encoder/") for path in kept)


def test_unfrozen_the_whole_goes_on_from_the_second(folder, second, capsys):
    config = classifier(
        folder / "rows",
        pretrained=pretrained(second),
        optimizer=dataclasses.replace(FROZEN, frozen=(), learning_rate=0.0, weight_decay=0.0),
    )
    train(config, folder / "whole")
    before, after = values(second), values(folder / "whole")
    for path in before:
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    assert "of them trained" not in capsys.readouterr().out


def test_a_resumed_run_does_not_read_its_source_again(folder, second, tmp_path):
    source = tmp_path / "gone"
    second.rename(source)
    try:
        config = classifier(folder / "rows", pretrained=pretrained(source), num_steps=4)
        train(config, tmp_path / "run")
    finally:
        source.rename(second)
    train(dataclasses.replace(config, num_steps=6), tmp_path / "run")
    assert int(max((tmp_path / "run" / "checkpoints").glob("6")).name) == 6


def test_how_much_is_trained_is_printed(second_and_printed):
    workdir, printed = second_and_printed
    arrays = values(workdir)
    size = params.count({p: x for p, x in arrays.items() if p.startswith("decoder/")})
    assert f"{params.count(arrays):,} parameters ({size:,} of them trained)" in printed


def test_a_source_that_does_not_fit_is_refused_before_anything_is_written(folder, first, tmp_path):
    config = classifier(folder / "rows", pretrained=pretrained(first))
    with pytest.raises(UserError, match="pretrained.part=encoder"):
        train(config, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob("*/"))


def test_fills_are_in_tensorboard_and_in_the_log(first_and_printed):
    workdir, printed = first_and_printed
    assert f"  {SAMPLE}  mask 1: '" in printed
    texts = [
        value.tensor.string_val[0].decode()
        for _, event in events(workdir)
        for value in event.summary.value
        if value.tag.startswith("eval/fills")
    ]
    assert len(texts) == 1 and f"| {SAMPLE} | 1 |" in texts[0]


def test_a_workdir_tells_classes_and_tokenizer_without_its_data(second):
    card = open_source(str(second)).card
    assert card.labels == ("bad", "good") and card.text.tokenizer == "bytes"
    assert "synthetic" in card.origin


def test_a_damaged_card_is_a_clear_error(first, tmp_path):
    workdir = shutil.copytree(first, tmp_path / "run")
    assert open_source(str(workdir)).card.text is not None
    (workdir / CARD).write_text("{")
    with pytest.raises(UserError, match=r"card\.json cannot be read"):
        open_source(str(workdir))
    (workdir / CARD).unlink()
    assert open_source(str(workdir)).card.text is None


@pytest.fixture(scope="module")
def own_tokenizer(folder):
    """A run with a trained tokenizer: its config, its workdir and the tokenizer's file."""
    from perceiver_jax.data.text.train_tokenizer import train as train_tokenizer

    path = folder / "tokenizer.json"
    texts = ["The happy dog likes the house.", "The sad cat hates the barn."] * 3
    train_tokenizer(texts, vocab_size=270, lowercase=False).save(str(path))
    config = language_model(folder / "rows", data={"tokenizer": str(path)})
    sizes = {"vocab_size": 270}
    model = dataclasses.replace(
        config.model,
        encoder=dataclasses.replace(config.model.encoder, **sizes),
        decoder=dataclasses.replace(config.model.decoder, **sizes),
    )
    config = dataclasses.replace(config, model=model)
    train(config, folder / "own")
    return config, folder / "own", path


def test_a_run_keeps_its_tokenizer_and_is_evaluated_by_it(own_tokenizer):
    _, workdir, path = own_tokenizer
    assert (workdir / "tokenizer.json").read_bytes() == path.read_bytes()
    before = evaluate(workdir)
    away = path.rename(path.with_suffix(".away"))
    try:
        assert evaluate(workdir) == before
    finally:
        away.rename(path)


def test_a_run_does_not_go_on_with_another_tokenizer(own_tokenizer):
    from perceiver_jax.data.text.tokenizers import load_tokenizer

    config, workdir, path = own_tokenizer
    kept = path.read_bytes()
    tree = json.loads(kept)
    a, b = list(tree["model"]["vocab"])[100:102]
    tree["model"]["vocab"][a], tree["model"]["vocab"][b] = (
        tree["model"]["vocab"][b],
        tree["model"]["vocab"][a],
    )
    path.write_text(json.dumps(tree))
    load_tokenizer.cache_clear()
    try:
        with pytest.raises(UserError, match="the tokenizer changed since the run"):
            train(dataclasses.replace(config, num_steps=6), workdir)
        assert (workdir / "tokenizer.json").read_bytes() == kept
    finally:
        path.write_bytes(kept)
        load_tokenizer.cache_clear()


def test_origin_and_licence_of_weights_go_with_what_began_with_them(folder, second):
    card = open_source(str(second)).card
    assert "from weights: trained with perceiver_jax on synthetic" in card.origin


def test_a_source_that_is_not_there_is_one_sentence_before_any_data_is_read(
    folder, tmp_path, capsys
):
    config = classifier(tmp_path / "rows", pretrained=pretrained(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="there is no workdir"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "rows").exists()
