"""What `prepare` takes out of an example: an entry that has to be there, and a label that may be.

Examples of a dataset have labels; one that is to be classified has none.
"""

from collections.abc import Mapping
from typing import Any

from perceiver_jax.data.pipeline import Example
from perceiver_jax.data.sources import DatasetError


def entry(example: Example, name: str, meaning: str) -> Any:
    """An entry of an example.

    Args:
        example: as `prepare` is given it.
        name: of the entry.
        meaning: what is expected there, for messages.

    Raises:
        DatasetError: it is not there.
    """
    if not isinstance(example, Mapping):
        raise DatasetError(
            f"the example is a {type(example).__name__}; expected a dict with '{name}', {meaning}"
        )
    if name not in example:
        found = ", ".join(map(repr, example)) or "nothing"
        raise DatasetError(f"the example has no '{name}', but {found}; expected {meaning} there")
    return example[name]


def label_of(example: Example) -> dict[str, Any]:
    """`{"label": ...}` as the example has it, or nothing."""
    return {"label": example["label"]} if "label" in example else {}
