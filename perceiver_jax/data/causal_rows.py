"""Rows for causal models: what is read, what comes next, filled up on the left.

- `{"ids", "targets": [L] int32, "input_mask", "predicted": [L] bool}`; `targets[i]` is the token
  that follows `ids[i]`.
- On the left, so that rows of any length end at the same place: where Perceiver AR's latents are.
"""

from typing import Any

import numpy as np


def causal_row(
    tokens: np.ndarray, *, length: int, pad_id: int, predicted: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """A row of tokens as a causal model takes it.

    Args:
        tokens: [n + 1] integers, n at most `length`.
        length: L.
        pad_id: fills ids and targets.
        predicted: [n] bool, which of the tokens behind the first are to be predicted; None: all.

    Returns:
        See the module.
    """
    num = len(tokens) - 1
    every = np.ones(num, bool)
    return {
        "ids": fill_left(tokens[:-1].astype(np.int32), length, pad_id),
        "targets": fill_left(tokens[1:].astype(np.int32), length, pad_id),
        "input_mask": fill_left(every, length, False),
        "predicted": fill_left(every if predicted is None else predicted, length, False),
    }


def fill_left(values: np.ndarray, length: int, value: Any) -> np.ndarray:
    """[n, ...] → [L, ...] of the same type: the values at the end, `value` before them."""
    filled = np.full((length, *values.shape[1:]), value, values.dtype)
    filled[length - len(values) :] = values
    return filled
