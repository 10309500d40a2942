"""Types that cross module borders, and what each of them holds."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

Array = jax.Array
"""An array; docstrings give shape, range and unit. Models take NumPy's as well."""

Key = jax.Array
"""A JAX random key. `None` in its place means inference: no dropout, stored batch statistics."""

Params = dict[str, Any]
"""Parameters (or statistics) by path: `{"encoder/latents": [N, D], ...}`. Values are arrays, or
`jax.ShapeDtypeStruct` where only shapes are known."""

Batch = Mapping[str, Any]
"""One host's examples as arrays whose first axis is the example; `"mask"` is False on padding."""

Sums = dict[str, Any]
"""Metrics as `{name: (sum, weight)}`: added over batches and devices, divided once at the end. In
evaluation also trees of arrays that are added and have a `value()` at the end."""

Model = nnx.Module
"""A model with its parameters in it: a function of arrays and an optional key."""
