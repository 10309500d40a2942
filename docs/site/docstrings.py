"""What the docstrings of this library have beyond Google's style, for the reference pages."""

import ast
import re
from typing import Any

import griffe

LABELLED = re.compile(r"^(Source|Differs): (.*(?:\n(?!Source: |Differs: ).+)*)", re.M)
"""A paragraph that says where something is from, or where it departs from that."""


class HouseStyle(griffe.Extension):
    """Fields of configs get the meaning in `setting`; `Source:` and `Differs:` become boxes."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """`name: type = setting(default, "meaning")` read as `name: type = default`, documented."""
        call = getattr(node, "value", None)
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "setting":
            return
        given = dict(zip(("default", "doc"), call.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in call.keywords}
        default = given.get("default")
        attr.value = None if default is None else ast.unparse(default)
        attr.docstring = griffe.Docstring(ast.literal_eval(given["doc"]), parent=attr)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """`Source: …` read as a block of that title."""
        if obj.docstring is not None:
            obj.docstring.value = LABELLED.sub(_indented, obj.docstring.value)


def _indented(paragraph: re.Match) -> str:
    label, text = paragraph.groups()
    return "\n".join([f"\n{label}:", *(f"    {line}" for line in text.splitlines())])
