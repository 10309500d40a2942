"""The model card of a release as text: what the model is, takes and tells, and how to use it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from perceiver_jax import params
from perceiver_jax.adapters.input_arrays import FreeSize, InputArray
from perceiver_jax.card import ModelCard
from perceiver_jax.config import choice_to_dict
from perceiver_jax.models.perceiver_config import half_of

MOST_NAMES = 30
"""Classes that the card names."""


def model_card_text(config: Any, card: ModelCard) -> str:
    """Markdown, with the metadata that hubs read.

    Args:
        config: one of `models.AnyModelConfig`.
        card: what else is known.
    """
    from perceiver_jax import models

    structure = models.skeleton(config)
    name = models.model_class(config).__name__
    settings = json.dumps(choice_to_dict(config), indent=2)
    return f"""---
library_name: perceiver_jax
tags: [perceiver, jax]
license: {_licence_id(card.licence)}
---

# {name}

A `perceiver_jax.models.{name}` of {params.count(structure.params):,} parameters.

- **Where the weights come from:** {card.origin or "not recorded"}
- **Their licence:** {card.licence or "not recorded; that of their origin applies"}

## Use

With the distribution `perceiver-flax`, in a checkout `pip install -c constraints.txt .`:

```python
import jax
from interop import load_pretrained

model = load_pretrained("ours", "path/to/this/folder")
call = jax.jit(lambda model, inputs: model(inputs))
```
{_inputs(config)}{_classes(card)}
## Config

```json
{settings}
```
"""


def _inputs(config: Any) -> str:
    """A table of what the model is called with, where its config tells."""
    of = getattr(half_of(config, "encoder"), "input_arrays", None)
    arrays = of and of()
    if not arrays:
        return ""
    rows = "\n".join(
        f"| `{name}` | {_sizes(array)} | {array.dtype} | {array.meaning}{_range(array)} |"
        for name, array in _each(arrays)
    )
    return f"""
| argument | shape, after the batch | type | |
|---|---|---|---|
{rows}
"""


def _each(arrays: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, InputArray]]:
    for name, array in arrays.items():
        if isinstance(array, Mapping):
            yield from _each(array, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", array


def _sizes(array: InputArray) -> str:
    sizes = (size.name if isinstance(size, FreeSize) else str(size) for size in array.shape)
    return f"[{', '.join(sizes)}]"


def _range(array: InputArray) -> str:
    if array.least is None or array.most is None:
        return ""
    return f"; from {array.least:g} to {array.most:g}"


def _classes(card: ModelCard) -> str:
    if not card.labels:
        return ""
    named = "; ".join(card.labels[:MOST_NAMES])
    more = "" if len(card.labels) <= MOST_NAMES else "; …"
    return f"\nIt tells {len(card.labels):,} classes apart: {named}{more}\n"


def _licence_id(licence: str | None) -> str:
    """The identifier that hubs know, or `other`."""
    given = (licence or "").lower().replace(" ", "-")
    return given if given in ("cc-by-4.0", "apache-2.0", "mit") else "other"
