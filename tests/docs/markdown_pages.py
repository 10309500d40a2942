"""The pages of the documentation as the tests of this folder read them."""

import json
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

from tests.conftest import ROOT

READER = MarkdownIt("commonmark").enable("table")


def pages() -> list[Path]:
    """All that is written for readers, from the top of the repository down."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    for folder in ("docs", "notebooks"):
        found += sorted((ROOT / folder).rglob("*.md"))
        found += sorted((ROOT / folder).rglob("*.ipynb"))
    return found


def name(page: Path) -> str:
    """A page as people refer to it."""
    return page.relative_to(ROOT).as_posix()


def text(page: Path) -> str:
    """What is written on it; of a notebook what stands between its code."""
    written = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return written
    cells = json.loads(written)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """(line, code) of every block of code in a language."""
    for token in READER.parse(text(page)):
        if token.type == "fence" and token.info == language:
            yield token.map[0] + 1, token.content
