"""What docs/conformance.md names is there: every test, file, symbol and page."""

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
TEXT = PAGE.read_text(encoding="utf-8")
TITLES = ["says", "here", "test", "differs"]
TABLES = {
    title: [
        [cell.strip() for cell in line.strip()[1:-1].split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    for title, section in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
}
ROWS = [
    pytest.param(row, id=f"{title}: {row[0][:40]}")
    for title, rows in TABLES.items()
    for row in rows[2:]
]


@functools.cache
def parsed(file):
    """The syntax tree of a file; nothing of it is imported."""
    return ast.parse(file.read_text(encoding="utf-8"))


def defined(body):
    """{name: body} of what statements define: classes and functions, constants and fields."""
    found = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node.body
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = []
        elif isinstance(node, ast.Assign):
            found |= {name.id: [] for name in node.targets if isinstance(name, ast.Name)}
    return found


def test_every_part_but_the_last_is_one_table_of_the_same_columns():
    *parts, last = TABLES.values()
    assert len(parts) >= 7 and not last
    for rows in parts:
        assert rows[0] == TITLES and set("".join(rows[1])) == {"-"}
        assert len(rows) > 5


@pytest.mark.parametrize("row", ROWS)
def test_a_statement_has_a_source_and_a_test_or_says_why_there_is_none(row):
    assert len(row) == len(TITLES), row
    says, _, test, _ = row
    nothing_of_the_papers = ("Faster forms", "Sharing is", "Twenty steps")
    has_source = re.search(r"\((P|IO|AR|DM|in no paper)\b|, (P|IO|AR) (§|app)", says)
    assert has_source or says.startswith(nothing_of_the_papers), says
    assert "tests/" in test or re.match(r"none: \S+ \S+", test), test
    assert says.startswith("✗") <= test.startswith("none"), row


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_that_are_named_are_there(row):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", " ".join(row))
    assert len(named) == " ".join(row).count("`tests/")
    for file, name in named:
        assert name.startswith("test_")
        assert name in defined(parsed(ROOT / file).body), f"{file}::{name}"


@pytest.mark.parametrize("row", ROWS)
def test_the_symbols_that_are_linked_are_defined_in_the_file(row):
    for text, target in re.findall(r"\[`([^`]+)`\]\((\.\./[^)]+\.py)\)", " ".join(row)):
        if text == pathlib.Path(target).name:
            continue
        body = parsed((PAGE.parent / target).resolve()).body
        for part in text.split("."):
            names = defined(body)
            assert part in names, f"{target} defines no {text}"
            body = names[part]


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert len(links) > 60
    for link in links:
        file, _, heading = link.partition("#")
        if link.startswith("https://arxiv.org/abs/"):
            continue
        path = (PAGE.parent / file).resolve() if file else PAGE
        assert path.is_file(), link
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
        slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not heading or heading in slugs, link


def test_fields_that_are_named_alone_are_those_of_the_config_of_their_part():
    config = ROOT / "perceiver_jax" / "core" / "perceiver_ar_config.py"
    common = ROOT / "perceiver_jax" / "core" / "layer_options.py"
    data = ROOT / "perceiver_jax" / "models" / "causal_sequence_model.py"
    fields = set(defined(defined(parsed(config).body)["PerceiverARConfig"]))
    fields |= set(defined(defined(parsed(common).body)["LayerOptions"]))
    fields |= set(defined(defined(parsed(data).body)["CausalSequenceConfig"]))
    others = {"causal", "num_latents", "z_loss", "refill"}
    cells = [cell for row in TABLES["Perceiver AR"][2:] for cell in (row[1], row[3])]
    named = {
        name.partition("=")[0]
        for cell in cells
        for name in re.findall(r"(?<!\[)`([a-z_]+(?:=[^`]+)?)`", cell)
    }
    assert len(named) >= 10
    assert named - others <= fields
