"""Pages of the site that stand elsewhere in the repository, and links that lead out of docs/."""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "notebooks/README.md": "notebooks/index.md",
}
"""Place in the repository → place in the site; notebooks join them."""
LINK = re.compile(
    r"^(`{3,}).*?^\1|(`+).*?\2"  # code, which may look like a link
    r"|(?P<before>!?\[(?P<words>[^\[\]]+)\]\()(?!\w+:)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)",
    re.M | re.S,
)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages."""
    for file in sorted(ROOT.glob("notebooks/*.ipynb")):
        PAGES[f"notebooks/{file.name}"] = f"notebooks/{file.stem}.md"
    for source, place in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = as_markdown(json.loads(text)) if source.endswith(".ipynb") else text
        files.append(File.generated(config, place, content=relinked(text, source, place)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of a page of docs/ that lead to a page from elsewhere, or out of the site."""
    place = page.file.src_uri
    return markdown if place in PAGES.values() else relinked(markdown, f"docs/{place}", place)


def relinked(markdown: str, source: str, place: str) -> str:
    """Links between places in the repository as links between places in the site.

    Of a link to what is no part of the site the words are left.
    """

    def link(match: re.Match) -> str:
        if match["target"] is None:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
        if target not in PAGES and not target.startswith("docs/"):
            return match["words"]
        target = PAGES.get(target, target.removeprefix("docs/"))
        target = posixpath.relpath(target, posixpath.dirname(place) or ".")
        return f"{match['before']}{target}{match['anchor'] or ''})"

    return LINK.sub(link, markdown)


def as_markdown(notebook: dict[str, Any]) -> str:
    """The cells of a notebook, with the text and the pictures that they gave."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"````python\n{source}\n````")
        for output in cell.get("outputs", ()):
            shown = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in shown:
                picture = "".join(shown["image/png"]).replace("\n", "")
                parts.append(f"![what the cell shows](data:image/png;base64,{picture})")
            else:
                parts.append(f"````text\n{''.join(shown['text/plain']).rstrip()}\n````")
    return "\n\n".join(parts)
