"""The site: it is built without a warning, and has every public name with its docstring."""

import ast
import html
import importlib
import inspect
import re
import shutil
import subprocess
import sys

import pytest
from mkdocstrings import Inventory

from tests.conftest import ROOT

FORMATS = "interop/formats/"
"""Its modules offer what the page on interop lists, one as the other."""


def build(folder, site):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def told(site):
    """A function: what the site says in words about a public name, or None."""
    with (site / "objects.inv").open("rb") as file:
        inventory = Inventory.parse_sphinx(file)

    def look_up(name):
        if name not in inventory:
            return None
        page, _, anchor = inventory[name].uri.partition("#")
        written = (site / page).read_text(encoding="utf-8").partition(f' id="{anchor}"')[2]
        section = re.split(r"<h[1-6] ", written)[0]
        return [plain(words) for words in re.findall(r"<p>(.*?)</p>", section, re.S)]

    return look_up


def plain(text):
    """HTML, or a docstring, as its words."""
    return re.findall(r"\w+", html.unescape(re.sub(r"<[^>]+>", "", text)))


def public_names():
    """What `__all__` of the packages lists."""
    for package in ("perceiver_jax", "interop"):
        for file in sorted((ROOT / package).rglob("__init__.py")):
            folder = file.parent.relative_to(ROOT).as_posix()
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    for name in ast.literal_eval(node.value):
                        if not folder.startswith(FORMATS) and name != "__version__":
                            yield f"{folder.replace('/', '.')}.{name}"


def test_every_public_name_is_told_with_its_docstring(told):
    names = list(public_names())
    assert len(names) > 150
    missing, silent = [], []
    for name in names:
        package, _, attribute = name.rpartition(".")
        meant = getattr(importlib.import_module(package), attribute)
        written = inspect.getdoc(meant) or "" if callable(meant) else ""
        first_line = plain(written.partition("\n")[0])
        paragraphs = told(name)
        if paragraphs is None:
            missing.append(name)
        elif not any(words[: len(first_line)] == first_line for words in paragraphs):
            silent.append(name)
    assert not missing, "add `::: NAME` to a page of docs/reference"
    assert not silent, "these have no docstring, or the site does not show it"


def test_a_field_of_a_config_is_told_by_its_setting(told):
    (words,) = told("perceiver_jax.core.EncoderConfig.num_self_attention_blocks")
    assert words == ["how", "many", "blocks", "follow", "each", "other"]


def test_the_labels_of_our_docstrings_are_titles(site):
    for page in (site / "reference").glob("*.html"):
        assert not re.search(r"<p>\s*(Source|Differs|Args|Raises|Returns):", page.read_text())
    written = (site / "reference" / "core.html").read_text(encoding="utf-8")
    sources = written.count("<summary>Source</summary>")
    assert sources > 10 and 0 < written.count("<summary>Differs</summary>") < sources


def test_nothing_is_fetched_from_elsewhere(site):
    fetched = {
        "*.html": r"""<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//""",
        "*.css": r"""(?:@import|url\()\s*['"]?(?:https?:)?//""",
    }
    for pattern, elsewhere in fetched.items():
        files = list(site.rglob(pattern))
        assert files and not [file for file in files if re.search(elsewhere, file.read_text())]


def test_what_is_wrong_stops_the_build(tmp_path):
    copied = tmp_path / "copy"
    copied.mkdir()
    for part in ("docs", "notebooks"):
        shutil.copytree(ROOT / part, copied / part)
    for file in ("README.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / file, copied)
    for package in ("perceiver_jax", "interop"):
        (copied / package).symlink_to(ROOT / package)
    wrong = ("gone.md", "imagenet.md#gone", "#nowhere", "perceiver_jax.nothing", "forgotten.md")
    with (copied / "docs" / "audio.md").open("a") as page:
        page.write("\n[x]({}) [x]({}) [x]({}) [x][{}]\n".format(*wrong))
    (copied / "docs" / wrong[-1]).write_text("# Forgotten\n")
    done = build(copied, tmp_path / "site")
    warned = "".join(re.findall(r"^WARNING.*(?:\n  .*)*", done.stderr, re.M))
    assert done.returncode != 0
    assert not [words for words in wrong if words not in warned]
