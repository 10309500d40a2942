"""Links of the pages: relative ones lead to a file and a heading, others are well formed."""

import re
import urllib.parse

import pytest

from tests.conftest import ROOT
from tests.docs.markdown_pages import READER, name, pages, text

PAGES = {name(page): page for page in pages()}
SPELLED = re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(/[\w./~%+&=?#:@-]*)?")


def targets(page):
    """Where the links and the pictures of a page lead."""
    inline = [child for token in READER.parse(text(page)) for child in token.children or ()]
    links = [token.attrGet("href") for token in inline if token.type == "link_open"]
    return links + [token.attrGet("src") for token in inline if token.type == "image"]


def anchors(page):
    """The anchors that repository hosts, and our site, give to the headings of a page."""
    tokens = READER.parse(text(page))
    found = set(re.findall(r"^::: (\S+)$", text(page), re.M))
    for heading, inline in zip(tokens, tokens[1:], strict=False):
        if heading.type == "heading_open":
            words = "".join(child.content for child in inline.children)
            found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


def wrong(page, target):
    """Why a link leads nowhere, or None."""
    parts = urllib.parse.urlsplit(target)
    if parts.scheme or parts.netloc:
        return None if SPELLED.fullmatch(target) else "is no address that begins with https://"
    path = (page.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else page
    if not path.is_relative_to(ROOT) or not path.exists():
        return "is not in the repository"
    if parts.fragment and parts.fragment not in anchors(path):
        return "is no heading there"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    found = {target: wrong(PAGES[page], target) for target in targets(PAGES[page])}
    assert not {target: why for target, why in found.items() if why}


@pytest.mark.parametrize(
    "link",
    [
        "[x](no_such.md)",
        "[x](architecture.md#no-such-heading)",
        "[x](#nothing-here)",
        "![x](images/none.png)",
        "[x](../../elsewhere)",
        "[x](http://example.org)",
        "[x](https://nowhere)",
        "[x]\n\n[x]: gone.md",
    ],
)
def test_a_link_that_leads_nowhere_is_found(link, tmp_path):
    (page := tmp_path / "page.md").write_text(link)
    (target,) = targets(page)
    assert wrong(ROOT / "docs" / "audio.md", target)


def test_links_and_headings_are_read():
    assert "docs/scaling.md" in targets(ROOT / "README.md")
    assert "one-attention-several-forms" in anchors(ROOT / "docs" / "architecture.md")
    assert "a-model-its-weights-its-use" in anchors(ROOT / "docs" / "language.md")
