"""A part of many output queries, drawn for a training step."""

import jax

from perceiver_jax.typing import Array, Key


def draw_queries(num_queries: int, num_all: int, key: Key) -> Array:
    """[1, num_queries] indices below `num_all`, each at most once, the same for a whole batch."""
    return jax.lax.top_k(jax.random.uniform(key, (1, num_all)), num_queries)[1]
