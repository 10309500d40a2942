"""Pages of the site from elsewhere in the repository, and links that lead out of docs/."""

import importlib.util

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def pages():
    """The module that mkdocs calls."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site/pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "source, place, written, relinked",
    [
        ("README.md", "index.md", "[a](docs/audio.md#data)", "[a](audio.md#data)"),
        ("README.md", "index.md", "![a](docs/images/x.png)", "![a](images/x.png)"),
        ("README.md", "index.md", "[`a`](configs/x.py), [b](#b)", "`a`, [b](#b)"),
        ("docs/audio.md", "audio.md", "[a](../README.md#train)", "[a](index.md#train)"),
        ("docs/audio.md", "audio.md", "[a](imagenet.md), [b](../x.py)", "[a](imagenet.md), b"),
        ("docs/x/y.md", "x/y.md", "[a](../../README.md)", "[a](../index.md)"),
        ("docs/audio.md", "audio.md", "[a](https://x.org/y)", "[a](https://x.org/y)"),
        ("README.md", "index.md", "`[a](b)` and\n```\nf[a](b)\n```", None),
    ],
)  # fmt: skip
def test_links_lead_to_places_of_the_site(pages, source, place, written, relinked):
    assert pages.relinked(written, source, place) == (relinked or written)


def test_a_notebook_becomes_a_page_with_its_text_and_pictures(pages):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {
            "cell_type": "code",
            "source": ["1 + 1"],
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]},
                {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
                {"output_type": "display_data", "data": {"image/png": "AB\nC="}},
            ],
        },
    ]  # fmt: skip
    assert pages.as_markdown({"cells": cells}) == (
        "# Title\nwords\n\n````python\n1 + 1\n````\n\n````text\na\nb\n````\n\n````text\n2\n````\n\n"
        "![what the cell shows](data:image/png;base64,ABC=)"
    )
