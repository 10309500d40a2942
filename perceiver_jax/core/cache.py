"""Keys and values of tokens already seen, so that the next token costs one position and not all.

- Buffers have a fixed size, and cells are filled from the left: programs are compiled once.
- Keys are kept turned by their rotary positions, and heads come before cells, so that nothing is
  computed or moved again.
- Examples and heads are one axis, as in the products: were they two, XLA on CPU would copy the
  buffers at every step, to write them once in either shape.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from perceiver_jax.typing import Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=("keys", "values"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class KeysValues:
    """Buffers of one attention.

    Attributes:
        keys: [B * H, cells, K].
        values: [B * H, cells, V].
    """

    keys: Array
    values: Array

    @classmethod
    def filled(cls, k: Array, v: Array, num_cells: int) -> "KeysValues":
        """[B, n, H, K] keys and [B, n, H, V] values in the first n of so many cells."""

        def fill(x):
            x = rearrange(x, "b n h c -> (b h) n c")
            return jnp.pad(x, ((0, 0), (0, num_cells - x.shape[1]), (0, 0)))

        return cls(fill(k), fill(v))

    def put(self, k: Array, v: Array, cell: Array) -> "KeysValues":
        """With [B, n, H, K] keys and [B, n, H, V] values from a cell on."""

        def put(buffer, x):
            x = rearrange(x, "b n h c -> (b h) n c").astype(buffer.dtype)
            return lax.dynamic_update_slice_in_dim(buffer, x, cell, axis=1)

        return KeysValues(put(self.keys, k), put(self.values, v))

    def attend(self, q: Array, mask: Array) -> Array:
        """[B, n, H, K] queries and a mask of cells [B, cells] → [B, n, H * V]."""
        dtype = jnp.promote_types(q.dtype, jnp.float32)
        # Keys stand on the left: on the right XLA on CPU copies them transposed at every step.
        scores = lax.dot_general(
            self.keys,
            rearrange(q, "b n h k -> (b h) n k"),
            (((2,), (2,)), ((0,), (0,))),
            preferred_element_type=dtype,
        )
        scores = rearrange(scores, "(b h) m n -> b h n m", b=len(q)) / q.shape[-1] ** 0.5
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(dtype).min)
        weights = jax.nn.softmax(scores).astype(self.values.dtype)
        result = jnp.einsum("hnm,hmv->hnv", rearrange(weights, "b h n m -> (b h) n m"), self.values)
        return rearrange(result, "(b h) n v -> b n (h v)", b=len(q))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("cross", "layers", "mask", "latent_mask", "num_tokens", "num_latents"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Cache:
    """What a Perceiver AR remembers of a sequence.

    Attributes:
        cross: of each cross-attention, a cell for each token.
        layers: of each self-attention layer, a cell for each latent.
        mask: [B, tokens] bool, True = a token, False = padding or nothing yet.
        latent_mask: [B, positions with latents] bool, likewise.
        num_tokens: tokens so far.
        num_latents: positions with latents so far.
    """

    cross: tuple[KeysValues, ...]
    layers: tuple[KeysValues, ...]
    mask: Array
    latent_mask: Array
    num_tokens: Array
    num_latents: Array

    def rows(self, indices: Array) -> "Cache":
        """The cache of some of the sequences.

        Args:
            indices: [R] which, in their order; one may come several times.
        """

        def taken(x):
            if not x.ndim:  # how many cells are filled is the same for all
                return x
            examples = x.reshape(len(self.mask), -1, *x.shape[1:])
            return examples.at[indices].get(mode="promise_in_bounds").reshape(-1, *x.shape[1:])

        return jax.tree.map(taken, self)
