"""Token ids to tokens, and answers to logits over a vocabulary.

- A token is its embedding plus the embedding of its position; positions count from the left.
- The output side asks one query per position: learned ones, of which as many are taken as there are
  inputs, or the embedded inputs themselves.
- A tied output adapter predicts with the table that embeds the inputs, and owns a bias alone.
"""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.arguments import as_mask, check_mask
from perceiver_jax.core.known_values import check_indices, rows, within
from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key

TokenQueries = Literal["trainable", "inputs"]


class TokenInputAdapter(nnx.Module):
    """Embeds token ids and their positions.

    Args:
        vocab_size: ids are 0 to `vocab_size` - 1.
        max_seq_len: most tokens of an example.
        num_input_channels: channels C of an embedding.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: deepmind `hk.Embed` plus `TrainablePositionEncoding` of the language model; krasserm
    `TokenInputAdapter`.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        max_seq_len: int,
        num_input_channels: int,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        init = init or InitConfig()
        self.vocab_size, self.max_seq_len = vocab_size, max_seq_len
        self.num_input_channels = num_input_channels
        shape = (vocab_size, num_input_channels)
        self.token_embedding = nnx.Param(init.embedding()(rngs.params(), shape, jnp.float32))
        shape = (max_seq_len, num_input_channels)
        self.position_embedding = nnx.Param(init.table()(rngs.params(), shape, jnp.float32))

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, M] ids → tokens of M elements.

        Raises:
            ValueError: the ids are no integers of shape [B, M], more than the model takes, or
                outside of the vocabulary where the mask is not False; under `jax.jit`, where that
                is not known, such tokens are NaN, and so is what the model predicts from them.
        """
        input_mask = as_mask(input_mask)
        ids = checked_ids(inputs, self.max_seq_len)
        check_mask(input_mask, ids.shape)
        ids = ids_of_vocabulary(ids, self.vocab_size, input_mask)
        places = self.position_embedding[...][None, : ids.shape[1]]
        return Tokens(content=rows(self.token_embedding[...], ids) + places, mask=input_mask)


def checked_ids(inputs: Array, max_seq_len: int) -> Array:
    """The inputs as ids [B, M], if a model of so many tokens takes them.

    Raises:
        ValueError: they are no integers of shape [B, M], or more than the model takes.
    """
    if isinstance(inputs, str):
        raise ValueError(
            f"the text {inputs[:40]!r} is no token ids; encode it with the model's tokenizer, or "
            "take a pipeline, see perceiver_jax.pipelines"
        )
    ids = jnp.asarray(inputs)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"inputs of shape {tuple(ids.shape)} and type {ids.dtype} are no token ids; give "
            "[batch, tokens] integers, as a tokenizer makes them"
        )
    if ids.shape[1] > max_seq_len:
        raise ValueError(
            f"{ids.shape[1]:,} tokens are more than this model takes, which is max_seq_len="
            f"{max_seq_len:,}; cut the text, or divide it into windows"
        )
    return ids


def ids_of_vocabulary(ids: Array, vocab_size: int, mask: Array | None) -> Array:
    """The ids, of which those of padding may be anything: there, others than 0 to V - 1 become 0.

    Raises:
        ValueError: others are known to be outside of the vocabulary.
    """
    remedy = f"the model's vocab_size is {vocab_size}; encode with its tokenizer, or mask padding"
    check_indices(ids, vocab_size, "token ids", remedy, mask)
    return within(ids, vocab_size, mask)


class _TokenQueries(nnx.Module):
    """One output query per input token.

    Args:
        max_seq_len: most tokens of an example.
        num_output_query_channels: channels E of queries and answers.
        output_queries: "trainable", [max_seq_len, E] of them; or "inputs", the embedded inputs.
        mask_queries: whether the attention result of padding is zero (DeepMind), or padding is
            asked for like any other position (the PyTorch libraries).
        init: initial values.
        rngs: where initial values come from.
    """

    pointwise = True

    def __init__(
        self,
        *,
        max_seq_len: int,
        num_output_query_channels: int,
        output_queries: TokenQueries,
        mask_queries: bool,
        init: InitConfig,
        rngs: nnx.Rngs,
    ):
        self.max_seq_len = max_seq_len
        self.num_output_query_channels = num_output_query_channels
        self.mask_queries = mask_queries
        self.trainable = output_queries == "trainable"
        if self.trainable:
            shape = (max_seq_len, num_output_query_channels)
            self.queries = nnx.Param(init.table()(rngs.params(), shape, jnp.float32))

    def make_queries(self, tokens: Tokens) -> Tokens:
        """One query per token, [B or 1, M, E]; their mask is that of the tokens, or none.

        Raises:
            ValueError: there are more tokens than queries, or they have other channels.
        """
        if tokens.num_tokens > self.max_seq_len:
            raise ValueError(
                f"{tokens.num_tokens:,} tokens are more than this decoder has queries for, which "
                f"is max_seq_len={self.max_seq_len:,}; cut the text, or divide it into windows"
            )
        mask = tokens.mask if self.mask_queries else None
        if self.trainable:
            return Tokens(content=self.queries[...][None, : tokens.num_tokens], mask=mask)
        if tokens.num_channels != self.num_output_query_channels:
            raise ValueError(
                f"output_queries='inputs' asks with tokens of {tokens.num_channels} channels, but "
                f"num_output_query_channels={self.num_output_query_channels}; make them equal"
            )
        return Tokens(content=tokens.dense(), mask=mask)


class TokenOutputAdapter(_TokenQueries):
    """Queries, and a linear layer from answers to logits.

    Args:
        vocab_size: tokens to predict.
        max_seq_len: most tokens of an example.
        num_output_query_channels: channels E of queries and answers.
        output_queries: "trainable" or "inputs", the embedded inputs.
        mask_queries: whether the attention result of padding is zero.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: krasserm `TokenOutputAdapter`; lucidrains `PerceiverLM` for queries made of the inputs.
    """

    tied = False

    def __init__(
        self,
        *,
        vocab_size: int,
        max_seq_len: int,
        num_output_query_channels: int,
        output_queries: TokenQueries = "trainable",
        mask_queries: bool = True,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        init = init or InitConfig()
        super().__init__(
            max_seq_len=max_seq_len,
            num_output_query_channels=num_output_query_channels,
            output_queries=output_queries,
            mask_queries=mask_queries,
            init=init,
            rngs=rngs,
        )
        self.linear = linear(num_output_query_channels, vocab_size, init=init, rngs=rngs)

    def __call__(self, outputs: Array) -> Array:
        """[B, O, E] answers → [B, O, vocab_size] logits."""
        return self.linear(outputs)


class TiedTokenOutputAdapter(_TokenQueries):
    """Queries, and logits by the table that embeds the inputs.

    Args:
        vocab_size: tokens to predict.
        max_seq_len: most tokens of an example.
        num_output_query_channels: channels E of queries and answers: those of the embedding.
        output_queries: "trainable" or "inputs", the embedded inputs.
        mask_queries: whether the attention result of padding is zero.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: deepmind `EmbeddingDecoder`, krasserm `TiedTokenOutputAdapter`.
    """

    tied = True

    def __init__(
        self,
        *,
        vocab_size: int,
        max_seq_len: int,
        num_output_query_channels: int,
        output_queries: TokenQueries = "trainable",
        mask_queries: bool = True,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            max_seq_len=max_seq_len,
            num_output_query_channels=num_output_query_channels,
            output_queries=output_queries,
            mask_queries=mask_queries,
            init=init or InitConfig(),
            rngs=rngs,
        )
        self.bias = nnx.Param(jnp.zeros(vocab_size, jnp.float32))

    def __call__(self, outputs: Array, *, embedding: Array) -> Array:
        """[B, O, E] answers and a [vocab_size, E] embedding → [B, O, vocab_size] logits."""
        return outputs @ embedding.T + self.bias[...][None, None]
