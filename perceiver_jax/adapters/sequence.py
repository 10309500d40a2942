"""Tokens of a sequence to embeddings at positions, and latents to logits of the next token.

- A position may have several indices (row, column and channel of an image), each with a table.
- Tables are learned, or fixed: sines and cosines, Fourier features, or as they were drawn.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from perceiver_jax.adapters.text import checked_ids, ids_of_vocabulary
from perceiver_jax.core.known_values import check_indices, rows, within
from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.position import fourier_features, linear_positions, sinusoidal_features
from perceiver_jax.typing import Array

PositionTable = Literal["random", "sinusoidal", "fourier"]


class SequenceEmbedding(nnx.Module):
    """Embeds token ids, and adds the embeddings of their positions.

    Args:
        vocab_size: ids are 0 to `vocab_size` - 1.
        max_seq_len: most tokens of an example.
        num_input_channels: channels C of an embedding.
        abs_pos_emb: whether embeddings of positions are added.
        position_shape: positions of each table; None: one table of `max_seq_len`.
        position_table: what tables start from.
        train_positions: whether tables are learned. A fixed one is a parameter as well, so that
            checkpoints carry it, but no gradient reaches it.
        init: initial values.
        rngs: where they come from.

    Source: krasserm `TokenInputAdapterWithRotarySupport`; perceiver-ar `input_embed` and
    `position_embeddings`; lucidrains `token_emb` and `pos_emb`.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        max_seq_len: int,
        num_input_channels: int,
        abs_pos_emb: bool = True,
        position_shape: Sequence[int] | None = None,
        position_table: PositionTable = "random",
        train_positions: bool = True,
        init: InitConfig,
        rngs: nnx.Rngs,
    ):
        self.vocab_size, self.max_seq_len = vocab_size, max_seq_len
        self.abs_pos_emb, self.train_positions = abs_pos_emb, train_positions
        shape = (vocab_size, num_input_channels)
        self.token_embedding = nnx.Param(init.embedding()(rngs.params(), shape, jnp.float32))
        sizes = (max_seq_len,) if position_shape is None else tuple(position_shape)
        self.num_indices = len(sizes) if abs_pos_emb else 1
        if abs_pos_emb:
            self.position_embedding = nnx.List(
                [
                    nnx.Param(_table(position_table, size, num_input_channels, init, rngs))
                    for size in sizes
                ]
            )

    def embed(self, ids: Array, positions: Array, mask: Array | None = None) -> Array:
        """[B, M] ids at positions [B or 1, M, L] → [B, M, C].

        What is outside of its table is NaN, but for ids of padding, where a mask [B or 1, M] is
        False: these may be anything.

        Raises:
            ValueError: other ids are known to be outside of the vocabulary.
        """
        ids = ids_of_vocabulary(ids, self.vocab_size, mask)
        content = rows(self.token_embedding[...], ids)
        if not self.abs_pos_emb:
            return content
        for i, table in enumerate(self.position_embedding):
            place = rows(table[...], positions[:, :, i])
            content = content + (place if self.train_positions else jax.lax.stop_gradient(place))
        return content

    def checked(self, inputs: Array) -> Array:
        """The inputs as ids [B, M], if the model takes so many.

        Raises:
            ValueError: they are no integers of shape [B, M], or more than the model takes.
        """
        return checked_ids(inputs, self.max_seq_len)

    def checked_positions(
        self, positions: Array, batch: int, num_tokens: int, mask: Array | None = None
    ) -> Array:
        """Positions as [B or 1, M, L], if they go with so many rows of tokens.

        Those of padding, where a mask [B or 1, M] is False, may be anything.

        Raises:
            ValueError: they have another shape, or where tables are indexed are no integers, or
                known to be beyond the last row.
        """
        if positions.ndim == 2:
            positions = positions[:, :, None]
        wanted = (num_tokens, self.num_indices)
        of_rows = positions.ndim == 3 and positions.shape[0] in (1, batch)
        if not of_rows or positions.shape[1:] != wanted:
            raise ValueError(
                f"positions of shape {tuple(positions.shape)} do not go with {batch} rows of "
                f"{num_tokens} tokens, each of which has {self.num_indices}; give [{batch} or 1, "
                f"{wanted[0]}, {wanted[1]}]"
            )
        if self.abs_pos_emb and not jnp.issubdtype(positions.dtype, jnp.integer):
            raise ValueError(
                f"positions of type {positions.dtype} cannot choose rows of a table; give integers"
            )
        if self.abs_pos_emb:
            columns = []
            for i, table in enumerate(self.position_embedding):
                remedy = f"the model's table {i} has a row for each position that it knows"
                size, at = len(table[...]), positions[:, :, i]
                if mask is not None:
                    at = jnp.broadcast_to(at, jnp.broadcast_shapes(at.shape, mask.shape))
                check_indices(at, size, "positions", remedy, mask)
                columns.append(within(at, size, mask))
            return jnp.stack(columns, axis=-1)
        return positions

    def check_counted(self) -> None:
        """Raises a ValueError if counting tokens does not tell their positions."""
        if self.num_indices > 1:
            raise ValueError(
                f"a token of this model has {self.num_indices} positions, which counting does not "
                "tell; give positions"
            )


class TiedLogits(nnx.Module):
    """Logits of the next token by the table that embeds the inputs.

    Args:
        vocab_size: tokens to predict.
        bias: whether a bias is added to the logits.

    Source: krasserm `TiedTokenOutputAdapter` of `CausalSequenceModel`.
    """

    tied = True

    def __init__(self, *, vocab_size: int, bias: bool):
        self.has_bias = bias
        if bias:
            self.bias = nnx.Param(jnp.zeros(vocab_size, jnp.float32))

    def __call__(self, latents: Array, *, embedding: Array) -> Array:
        """[B, N, C] latents and a [vocab_size, C] embedding → [B, N, vocab_size] logits."""
        logits = latents @ embedding.T
        return logits + self.bias[...][None, None] if self.has_bias else logits


class LinearLogits(nnx.Module):
    """Logits of the next token by a linear layer of its own.

    Args:
        vocab_size: tokens to predict.
        num_channels: channels of latents.
        bias: whether the layer has a bias.
        zero: whether its kernel starts at zero, so that training begins with equal chances.
        init: initial values otherwise.
        rngs: where they come from.

    Source: perceiver-ar `final_layer`, lucidrains `to_logits`.
    """

    tied = False

    def __init__(
        self,
        *,
        vocab_size: int,
        num_channels: int,
        bias: bool,
        zero: bool,
        init: InitConfig,
        rngs: nnx.Rngs,
    ):
        self.linear = linear(num_channels, vocab_size, bias=bias, init=init, rngs=rngs)
        if zero:
            self.linear.kernel[...] = jnp.zeros((num_channels, vocab_size), jnp.float32)

    def __call__(self, latents: Array, *, embedding: None = None) -> Array:
        """[B, N, D] → [B, N, vocab_size]; the embedding is not looked at."""
        return self.linear(latents)


def _table(
    kind: PositionTable, size: int, num_channels: int, init: InitConfig, rngs: nnx.Rngs
) -> Array:
    """[size, C] initial values of a table of positions."""
    if kind == "random":
        return init.embedding()(rngs.params(), (size, num_channels), jnp.float32)
    if kind == "sinusoidal":
        return jnp.asarray(sinusoidal_features(size, num_channels), jnp.float32)
    features = fourier_features(
        linear_positions(size)[:, None],
        num_bands=num_channels // 2,
        max_resolution=[size],
        concat_positions=False,
    )
    return jnp.asarray(np.pad(features, ((0, 0), (0, num_channels % 2))), jnp.float32)
