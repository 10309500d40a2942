"""The migration pages taken apart: blocks of code, commands, tables; and what interop says."""

import copy
import pathlib
import re
import shlex

import pytest

from interop import FORMATS
from interop.references import ReferenceMissing, krasserm
from perceiver_jax.config import to_dict

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "migrating"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
BLOCK = re.compile(r"(?:^<!-- not run: (.+?) -->\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
HALVES = {
    # script of krasserm's: (package, config of the encoder, of the decoder)
    "vision.image_classifier": (
        krasserm.IMAGE_CLASSIFIER,
        "ImageEncoderConfig",
        "ClassificationDecoderConfig",
    ),
    "text.mlm": (krasserm.MASKED_LANGUAGE_MODEL, "TextEncoderConfig", "TextDecoderConfig"),
    "text.classifier": (
        krasserm.TEXT_CLASSIFIER,
        "TextEncoderConfig",
        "ClassificationDecoderConfig",
    ),
}


def backend(package=krasserm.IMAGE_CLASSIFIER):
    """A module of krasserm's; skips the test where it is not installed."""
    try:
        return krasserm.backend(package)
    except ReferenceMissing as error:
        pytest.skip(str(error))


def blocks(page, language):
    """[(why it is not run, or "", text)]"""
    found = BLOCK.findall(PAGES[page])
    return [(why, text) for why, kind, text in found if kind == language]


def commands(page):
    """Command lines of a page, word by word."""
    lines = "\n".join(text for _, text in blocks(page, "shell")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def rows(page, head):
    """[(names in the first cell, names in the second)] of the table with that first header cell."""
    _, found, rest = PAGES[page].partition(f"\n| {head} |")
    assert found, f"{page} has no table '{head}'"
    lines = rest.split("\n\n")[0].splitlines()[2:]
    cells = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3]] for line in lines]
    return [(theirs, set(ours)) for theirs, ours in cells]


def table(page, head):
    """{name in the first cell: names in the second} of the table with that first header cell."""
    return {name: ours for theirs, ours in rows(page, head) for name in theirs}


def fields(config):
    """{path: value} of a config."""
    found = {}

    def walk(path, tree):
        for name, value in tree.items():
            if isinstance(value, dict):
                walk([*path, name], value)
            else:
                found[".".join([*path, name])] = value

    walk([], to_dict(config))
    return found


def changed(form, settings, path, value):
    """Paths of our config that another value of a setting changes; None where it is refused."""
    altered = copy.deepcopy(settings)
    *groups, name = path.split(".")
    group = altered
    for one in groups:
        group = group[one]
    group[name] = value
    before = fields(FORMATS[form].config(settings))
    try:
        after = fields(FORMATS[form].config(altered))
    except ValueError:
        return None
    return {path for path in before | after if before.get(path) != after.get(path)}


def other(value):
    """Another setting of that type."""
    if isinstance(value, bool):
        return not value
    return value / 4 + 0.25 if isinstance(value, float) else 2 * (value or 16)
