"""The commands of the migration pages parse, and train what those of other libraries train."""

import ast
import contextlib
import dataclasses
import inspect
import json
import pathlib
import re
import shlex
import warnings
from typing import Any

import pytest
from absl import flags
from ml_collections import config_flags

import interop.__main__
import perceiver_jax.run
from interop import FORMATS
from interop.expressible import nearest
from interop.formats.krasserm.files import NOT_OF_THE_MODEL
from perceiver_jax import models
from perceiver_jax.config import from_dict
from perceiver_jax.data import DatasetError
from perceiver_jax.data.text import train_tokenizer
from perceiver_jax.train import command_line
from perceiver_jax.train.config import ExperimentConfig
from tests.conftest import ROOT
from tests.docs.migrating import HALVES, PAGES, backend, commands, fields, rows, table


def experiment(arguments) -> Any:
    """The config of `train.main` with these arguments; a wrong one raises."""
    name, _, variant = arguments[0].removeprefix("--config=").partition(":")
    file = f"--config={command_line.config_file(name)}" + (f":{variant}" if variant else "")
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "as of the command", flag_values=values)
    argv = ["main", file, *arguments[1:]]
    with warnings.catch_warnings():
        # ml_collections loads config files in a way that Python 3.15 will not have.
        warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
        config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=argv)
        values(argv)
    tree: Any = values["config"].value
    return from_dict(ExperimentConfig, tree)


def is_ours(words):
    return words[:2] == ["python", "-m"] and words[2].split(".")[0] in ("perceiver_jax", "interop")


@pytest.fixture
def parses(monkeypatch):
    """A function that has the parser of a command take its words; a wrong one ends it."""
    for module in (perceiver_jax.run, interop.__main__, train_tokenizer):
        monkeypatch.setattr(module, "run_command", lambda work, **_: 0)

    def parse(module, arguments):
        main = {"perceiver_jax.run": perceiver_jax.run.main, "interop": interop.__main__.main}
        if module in main:
            return main[module](arguments)
        if module == "perceiver_jax.data.text.train_tokenizer":
            return train_tokenizer.main(arguments)
        if module == "perceiver_jax.config":
            return experiment([f"--config={arguments[0]}", *arguments[1:]])
        if module == "perceiver_jax.train.main":
            made = experiment(arguments)
            if any(argument.startswith("--config.model.") for argument in arguments):
                models.skeleton(made.model)
            # Other tokenizers are files that a run made, or lie in the hub.
            if getattr(made.data, "tokenizer", "bytes") == "bytes":
                with contextlib.suppress(DatasetError):
                    made.task.check(made.model, made.data)
            return made
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        for argument in arguments:
            name = argument.partition("=")[0].removeprefix("--")
            defined = rf'DEFINE_\w+\(\s*"{name}"' if name != "config" else r"define_config\(\)"
            assert re.search(defined, source), argument
        return None

    return parse


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_ours_are_understood(page, parses):
    given = [words[2:] for words in commands(page) if is_ours(words)]
    assert given
    runs = {}
    for module, *arguments in given:
        made = parses(module, arguments)
        if module == "perceiver_jax.train.main":
            found = [a for a in arguments if a.startswith("--workdir=")]
            runs |= {a.removeprefix("--workdir="): made for a in found}
        for argument in arguments:
            form = re.match(r"--(?:source|config\.pretrained\.source)=(\w+):", argument)
            assert not form or form[1] in FORMATS, argument
    for _, command, *arguments in given:
        if command == "export" and arguments[1] in runs and "--approximate" not in arguments:
            _, changes = nearest(FORMATS[arguments[0]], runs[arguments[1]].model)
            assert not changes, arguments


def accepts(name, override):
    """Whether a shipped config takes an override."""
    try:
        experiment([f"--config={name}", override])
    except (ValueError, AttributeError, KeyError, flags.Error):
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_names_are_those_of_a_shipped_config(page):
    named = {
        word
        for code in re.findall(r"`([^`\n]*--config\.[^`\n]+)`", PAGES[page])
        for word in shlex.split(code)
        if word.startswith("--config.") and not word.endswith(".X")
    }
    for override in named:
        assert any(accepts(name, override) for name in SHIPPED), override


SHIPPED = (
    *("mnist", "mlm_bytes", "text_classifier_imdb", "clm_bytes", "symbolic_audio_giantmidi"),
    *("imagenet_a", "optical_flow", "video_autoencoding", "ar_copy_32", "ar_imagenet64"),
)
"""Configs of every kind."""

SIZES = {
    # data module, and what their command line takes from it for the model
    "MNISTDataModule": {"encoder.image_shape": [28, 28, 1], "decoder.num_classes": 10},
    "ImdbDataModule": {"encoder.vocab_size": 262, "decoder.vocab_size": 262},
    "WikiTextDataModule": {"vocab_size": 262},
    "C4DataModule": {"vocab_size": 32_000},
    "MaestroV3DataModule": {"vocab_size": 389},
    "GiantMidiPianoDataModule": {"vocab_size": 389},
}
NOT_COMPUTED = (
    "remat",
    "masked_rows",
    "mask_queries",
    "init_method",
    "init_scale",
    "compute_dtype",
)
"""Settings that do not change what a model computes of a whole input."""
TRAINING = {
    "optimizer.lr": "optimizer.learning_rate",
    "model.optimizer.lr": "optimizer.learning_rate",
    "optimizer.weight_decay": "optimizer.weight_decay",
    "lr_scheduler.warmup_steps": "optimizer.warmup_steps",
    "model.scheduler.warmup_steps": "optimizer.warmup_steps",
    "model.scheduler.min_fraction": "optimizer.final_fraction",
    "trainer.gradient_clip_val": "optimizer.clip_norm",
    "model.max_grad_norm": "optimizer.clip_norm",
    "trainer.accumulate_grad_batches": "optimizer.accumulate",
    "trainer.max_steps": "num_steps",
    "data.max_seq_len": "data.max_seq_len",
    "data.add_special_tokens": "data.add_special_tokens",
    "data.random_train_shift": "data.random_shift",
}


def given_flags(arguments):
    """{flag: value} of a command of krasserm's."""
    pairs = [argument.removeprefix("--").partition("=")[::2] for argument in arguments]
    found = {}
    for name, value in pairs:
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def script_path(script):
    """The file of a script, or the folder of all."""
    folder = pathlib.Path(inspect.getfile(backend())).parents[3] / "scripts"
    return folder.joinpath(*script.split("."))


def constants(path, function):
    """Dicts that a script gives to calls of a function."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    named = [call for call in calls if getattr(call.func, "attr", None) == function]
    return [ast.literal_eval(call.args[0]) for call in named]


def model_of(script, given):
    """Our config of the model that a command of krasserm's makes."""
    defaults = constants(script_path(script).with_suffix(".py"), "set_defaults")
    sizes = {f"model.{name}": value for name, value in SIZES[given["data"]].items()}
    flat = {**dict(*defaults), **sizes, **given}
    length = given.get("data.max_seq_len")
    tree = {"encoder": {}, "decoder": {}}
    for name, value in flat.items():
        of_model, _, rest = name.partition("model.")
        *half, last = rest.split(".")
        if not of_model and rest and [*half, last][0] not in NOT_OF_THE_MODEL:
            (tree[half[0]] if half else tree)[last] = value
    if script not in HALVES:
        del tree["encoder"], tree["decoder"]
        return FORMATS["krasserm"].config(tree | {"max_seq_len": length})
    if script.startswith("text"):
        tree["encoder"]["max_seq_len"] = tree["decoder"]["max_seq_len"] = length
    if script == "text.classifier":
        tree["decoder"] |= {"num_classes": 2}
        del tree["decoder"]["vocab_size"], tree["decoder"]["max_seq_len"]
    return FORMATS["krasserm"].config(tree)


@pytest.mark.reference
def test_a_command_of_krasserm_and_the_one_below_it_train_the_same_model():
    given = commands("from_krasserm")
    pairs = [
        (theirs[2].removeprefix("perceiver.scripts."), given_flags(theirs[4:]), ours[3:])
        for theirs, ours in zip(given, given[1:], strict=False)
        if "fit" in theirs
    ]
    assert {script for script, *_ in pairs} == {
        *HALVES,
        "text.clm",
        "text.clm_fsdp",
        "audio.symbolic",
    }
    for script, theirs, arguments in pairs:
        ours = experiment(arguments)
        before, after = fields(model_of(script, theirs)), fields(ours.model)
        same = {path for path in before | after if path.split(".")[-1] not in NOT_COMPUTED}
        assert {p: before.get(p) for p in same} == {p: after.get(p) for p in same}, script
        settings = fields(ours)
        for flag, path in TRAINING.items():
            assert flag not in theirs or theirs[flag] == settings[path], (script, flag)
        name = theirs.get("optimizer") or theirs["model.optimizer"]
        assert ours.optimizer.name == name.lower()
        # PyTorch's decays all.
        assert name != "AdamW" or ours.optimizer.no_decay == (), script
        parts = theirs.get("trainer.accumulate_grad_batches", 1) * theirs["trainer.devices"]
        assert ours.data.batch_size == theirs["data.batch_size"] * parts, script
        if "data.min_seq_len" in theirs:
            least = getattr(ours.data, "min_seq_len", None) or ours.data.random_min_seq_len
            assert least == theirs["data.min_seq_len"]


@pytest.mark.reference
def test_every_script_and_every_flag_of_krasserm_is_on_the_page():
    root = script_path("")
    page = PAGES["from_krasserm"]
    for path in root.rglob("*.py"):
        if path.stem not in ("__init__", "cli", "lrs"):
            name = ".".join(path.relative_to(root.parents[1]).with_suffix("").parts)
            assert f"python -m {name} " in page or f"python -m {name}\n" in page, name
    flags_of = {
        "`--model.`": ("model/core/lightning.py", "model/text/mlm/lightning.py"),
        "`--data.`": ("data/text/common.py", "data/text/c4.py", "data/text/enwik8.py"),
    }
    flags_of["`--data.`"] += (
        "data/audio/symbolic.py",
        "data/audio/maestro_v3.py",
        "data/vision/mnist.py",
    )
    for head, files in flags_of.items():
        told = table("from_krasserm", head).keys()
        for file in files:
            for name in sorted(arguments_of(root.parent / file)):
                assert name in told or name in OURS, (file, name)


OURS = {
    f.name
    for config in (models.CausalSequenceConfig, models.PerceiverConfig)
    for f in dataclasses.fields(config)
}


def arguments_of(path):
    """Arguments of the constructors of Lightning's modules in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and re.match(r"Lit|.*DataModule$", node.name):
            for function in node.body:
                if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                    one = function.args
                    yield from (a.arg for a in (*one.args, *one.kwonlyargs) if a.arg != "self")


def test_flags_of_the_scripts_of_2021_are_in_their_table():
    told = {name.removeprefix("--") for name in table("from_krasserm", "`train/*.py`")}
    for words in commands("from_krasserm"):
        if words[1].startswith("train/"):
            used = {w.partition("=")[0].removeprefix("--") for w in words[2:] if w.startswith("--")}
            assert used <= told


def test_settings_beside_those_of_jaxline_are_those_of_the_published_run():
    usual = fields(experiment(["--config=imagenet_a"]))
    for _, ours in rows("from_deepmind", "`experiment.py`"):
        for override in (word for code in ours for word in shlex.split(code)):
            if override.startswith("--config."):
                assert fields(experiment(["--config=imagenet_a", override])) == usual, override
