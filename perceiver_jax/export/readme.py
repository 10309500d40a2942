"""The README of an artifact: the lines that run it."""

from collections.abc import Mapping
from typing import Any


def readme(description: Mapping[str, Any]) -> str:
    """The text that goes with a description."""
    program, model = description["program"], description["model"]
    platforms = ", ".join(program["platforms"])
    inputs = "\n".join(_told(one) for one in description["inputs"])
    outputs = "\n".join(_told(one) for one in description["outputs"])
    origin = model["origin"] or "where the weights come from is not recorded"
    return f"""# {model["kind"]}

{model["does"]} {origin[:1].upper() + origin[1:]}.

This folder needs no library but `jax`, `numpy` and `flatbuffers`. It was written with jax
{program["jax"]}, for {platforms}.

```python
{_lines(description)}
```

Inputs, in the order of the call{_batch(description)}:

{inputs}

Outputs:

{outputs}

{_ready(description)}
{_also(description)}
"""


def _lines(description: Mapping[str, Any]) -> str:
    """A program that calls the artifact with zeros."""
    names = list(dict.fromkeys(one["argument"] for one in description["inputs"]))
    classifies = description["labels"] and len(description["outputs"]) == 1
    lines = [
        *(["import json"] if classifies else []),
        "from pathlib import Path",
        "",
        "import jax",
        "import numpy as np",
        "from jax import export",
        "",
        'folder = Path(".")  # where this README lies',
        'program = export.deserialize(bytearray((folder / "model.jax_export").read_bytes()))',
        'weights = jax.device_put(dict(np.load(folder / "weights.npz")))',
        "call = jax.jit(program.call)  # compiled once for each size of batch",
        "",
        *(f"{name} = {_zeros(name, description)}" for name in names),
        f"outputs = call(weights, {', '.join(names)})",
    ]
    if classifies:
        lines += [
            'labels = json.loads((folder / "artifact.json").read_text("utf-8"))["labels"]',
            "print(labels[int(np.argmax(outputs[0]))])",
        ]
    else:
        lines += ["print(jax.tree.map(np.shape, outputs))"]
    return "\n".join(lines)


def _ready(description: Mapping[str, Any]) -> str:
    """Where it stands how inputs are made."""
    if description["preprocessing"]:
        return (
            "How inputs are made of raw data stands in `artifact.json` under `preprocessing`, in "
            "numbers and in sentences."
        )
    return (
        "How inputs are made of raw data is not recorded, here or in `artifact.json`, beyond what "
        "they are."
    )


def _also(description: Mapping[str, Any]) -> str:
    """What else the description tells."""
    if description["labels"]:
        return (
            "Class names stand there under `labels`, and digests of both files beside their names."
        )
    return "Digests of both files stand there beside their names."


def _zeros(name: str, description: Mapping[str, Any]) -> str:
    """An argument as an expression, of a batch of one where it may be of any size."""
    parts = [one for one in description["inputs"] if one["argument"] == name]
    if not parts[0]["keys"]:
        return _array(parts[0])
    inner = ", ".join(f'"{one["keys"][0]}": {_array(one)}' for one in parts)
    return f"{{{inner}}}"


def _array(one: Mapping[str, Any]) -> str:
    shape = tuple(size if isinstance(size, int) else 1 for size in one["shape"])
    if one["dtype"] == "bool":
        return f"np.ones({shape}, bool)"
    return f"np.zeros({shape}, np.{one['dtype']})"


def _batch(description: Mapping[str, Any]) -> str:
    size = description["inputs"][0]["shape"][0]
    return "" if isinstance(size, int) else f"; `{size}` examples, as many as you like"


def _told(one: Mapping[str, Any]) -> str:
    """A line of a list."""
    name = "/".join(map(str, [*([one["argument"]] if "argument" in one else []), *one["keys"]]))
    shape = ", ".join(map(str, one["shape"]))
    text = f"- `{name}` " if name else "- "
    text += f"[{shape}] {one['dtype']}"
    if one.get("least") is not None:
        text += f" from {one['least']:g} to {one['most']:g}"
    return text + (f": {one['meaning']}" if "meaning" in one else "")
