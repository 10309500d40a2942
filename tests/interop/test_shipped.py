"""Which formats take the models of the shipped configs: the page, the refusals, and conversions."""

import dataclasses
import re

import numpy as np
import pytest

from interop import FORMATS, export_weights
from interop.configs import find_config
from interop.expressible import nearest
from interop.shipped import TAKEN
from perceiver_jax import models
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import Release
from perceiver_jax.train.command_line import shipped_configs
from tests.conftest import ROOT

FOREIGN = [name for name in FORMATS if name != "ours"]
FILES = {"deepmind": "x.pystate", "huggingface": "x", "krasserm": "x.ckpt", "lucidrains": "x.pt"}


def documented():
    """{config: {format: cell}} of the page."""
    page = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
    section = page.partition("## Which formats take the models of our configs")[2]
    rows = re.findall(r"^\| (.+) \|$", section.partition("\n## ")[0], re.MULTILINE)
    head, *cells = ([cell.strip("` ") for cell in row.split("|")] for row in rows)
    return {name: dict(zip(head[1:], given, strict=True)) for name, *given in cells}


def how(name, format_):
    """`yes`, `nearest` or `–`, by trying."""
    module = FORMATS[format_]
    try:
        _, changes = nearest(module, find_config(name, module))
    except UserError:
        return "–"
    return "nearest" if changes else "yes"


def small(name, format_):
    """A model of a config's smoke variant; where that is of other widths, of fewer layers."""
    config = find_config(f"{name}:smoke", FORMATS[format_])
    if format_ == "huggingface":
        config = find_config(name, FORMATS[format_])
        encoder = dataclasses.replace(config.encoder, num_self_attention_layers_per_block=1)
        config = dataclasses.replace(config, encoder=encoder)
    structure, rng = models.skeleton(config), np.random.default_rng(0)
    arrays = {
        path: rng.standard_normal(x.shape, np.float32).astype(x.dtype)
        for path, x in {**structure.params, **structure.stats}.items()
    }
    return Release(config=config, arrays=arrays)


@pytest.mark.parametrize("name", shipped_configs())
def test_the_page_says_what_each_format_makes_of_a_config(name):
    assert documented()[name] == {format_: how(name, format_) for format_ in FOREIGN}


@pytest.mark.parametrize("format_", FOREIGN)
def test_refusals_name_what_the_page_says(format_):
    found = [name for name, cells in documented().items() if cells[format_] == "yes"]
    assert list(TAKEN[format_]) == found


@pytest.mark.parametrize(
    ("format_", "name"), [(format_, name) for format_ in FOREIGN for name in TAKEN[format_]]
)
def test_a_model_of_a_named_config_is_really_converted(format_, name, tmp_path):
    exported = export_weights(small(name, format_), format_, tmp_path / FILES[format_])
    assert exported.changes == ()
    assert (tmp_path / FILES[format_]).exists()


@pytest.mark.parametrize("format_", FOREIGN)
def test_a_refusal_says_why_and_which_configs_would_do(format_, tmp_path):
    with pytest.raises(UserError) as refused:
        export_weights(small("mnist5k", format_), format_, tmp_path / FILES[format_])
    why = "'patches' → 'pixels'" if format_ != "lucidrains" else "has no ImageClassifier"
    assert why in str(refused.value)
    fits = [name for name, cells in documented().items() if cells[format_] == "yes"]
    assert f"takes the models of: {', '.join(fits) or 'none'} (docs/" in str(refused.value)


def test_a_refusal_lists_also_what_follows_from_other_changes():
    config = find_config("mlm_small", FORMATS["huggingface"])
    with pytest.raises(UserError) as refused:
        nearest(FORMATS["huggingface"], config)
    listed = re.findall(r"^  (decoder\.\w+): ", str(refused.value), re.MULTILINE)
    assert "decoder.num_cross_attention_qk_channels" in listed
    assert "decoder.num_cross_attention_v_channels" in listed
