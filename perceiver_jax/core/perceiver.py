"""Whole models: Perceiver IO (encode, process, decode) and the original Perceiver (encode, pool).

- A model is a function of arrays and an optional key; `key=None` means inference.
- `stages` and `attention_maps` call the same model with a recording tape.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.arguments import as_mask, known_arguments
from perceiver_jax.core.decoder import MeanPoolHead, PerceiverDecoder
from perceiver_jax.core.dropout import split
from perceiver_jax.core.encoder import PerceiverEncoder
from perceiver_jax.core.known_values import check_indices
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.params import flatten, summary
from perceiver_jax.typing import Array, Key


class Recordable(nnx.Module):
    """A model whose call takes a tape, and which shows itself part by part."""

    def __repr__(self) -> str:
        """Its parts, as parameter paths begin, with their numbers of parameters."""
        return f"{type(self).__name__}: {summary(flatten(self)[0])}"

    __str__ = __repr__

    def stages(self, *args: Any, **kwargs: Any) -> dict[str, Array]:
        """Calls the model and returns its named intermediate results in order of computation."""
        stages: dict[str, Array] = {}
        self(*args, tape=Tape(stages=stages), **kwargs)
        return stages

    def attention_maps(self, *args: Any, **kwargs: Any) -> dict[str, Array]:
        """Calls the model and returns its attention weights, [B, H, queries, keys] by layer.

        Maps of learned latents that no input has reached yet have batch size 1.
        """
        maps: dict[str, Array] = {}
        self(*args, tape=Tape(attention_maps=maps), **kwargs)
        return maps


class PerceiverIO(Recordable):
    """Encoder and decoder joined.

    Args:
        encoder: inputs → latents.
        decoder: latents and queries → predictions.

    Raises:
        ValueError: the halves are exchanged, or have latents of different channels.

    Source: Perceiver IO §3; deepmind `Perceiver`, krasserm `PerceiverIO`.
    """

    def __init__(self, encoder: PerceiverEncoder, decoder: PerceiverDecoder):
        if not isinstance(encoder, PerceiverEncoder) or not isinstance(decoder, PerceiverDecoder):
            raise ValueError(
                "PerceiverIO takes an encoder and a decoder, in this order, not "
                f"{type(encoder).__name__} and {type(decoder).__name__}"
            )
        if encoder.num_latent_channels != decoder.num_latent_channels:
            raise ValueError(
                f"an encoder of {encoder.num_latent_channels} latent channels and a decoder of "
                f"{decoder.num_latent_channels} do not fit; give both the same num_latent_channels"
            )
        self.encoder = encoder
        self.decoder = decoder

    @known_arguments()
    def __call__(
        self,
        inputs: Any,
        input_mask: Array | None = None,
        *,
        queries: Array | Tokens | None = None,
        query_mask: Array | None = None,
        query_indices: Array | None = None,
        latents: Array | Tokens | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Any:
        """Predicts.

        Args:
            inputs: whatever the encoder's input adapter takes.
            input_mask: [B, M] bool, True = an element, False = padding.
            queries: [O, E] or [B, O, E] in place of the output adapter's own, or what the query
                adapter takes, or tokens of either, with moments or segments.
            query_mask: [B, O] bool ([B, o] with `query_indices`); where False the query's
                attention result is zero; None: as the output adapter has it.
            query_indices: [B, o] integers, which of the O queries are asked; None: all. The others
                cost nothing (deepmind's `subsampled_output_points`).
            latents: [N, D] or [B, N, D] initial latents in place of the learned ones, or tokens of
                them, see `PerceiverEncoder`.
            key: random key; given in training, when it turns dropout on and lets batch norms
                use the batch's statistics and update their own, the one thing that a call
                changes in a model. None means inference.
            tape: records intermediates.

        Returns:
            Whatever the decoder's output adapter makes, for a classifier [B, classes] logits.
        """
        if queries is None and self.decoder.adapts_queries:
            adapter = type(self.decoder.query_adapter).__name__
            raise ValueError(
                f"this model makes queries of what is given at the call ({adapter}), such as "
                "coordinates [O, d] or [B, O, d]; pass it as queries="
            )
        adapter_key, encoder_key, decoder_key = split(key, 3)
        tokens = self.encoder.input_adapter(inputs, as_mask(input_mask), key=adapter_key)
        z = self.encoder.encode(tokens, latents=latents, key=encoder_key, tape=tape.at("encoder"))
        asked = self.decoder.output_adapter.make_queries(tokens) if queries is None else queries
        if query_indices is not None:
            asked = chosen(asked, query_indices)
        tied = self.decoder.output_adapter.tied
        outputs = self.decoder(
            z,
            asked,
            as_mask(query_mask, "query_mask"),
            embedding=self.encoder.input_adapter.token_embedding[...] if tied else None,
            key=decoder_key,
            tape=tape.at("decoder"),
        )
        tape.stage("outputs", outputs)
        return outputs

    @known_arguments()
    def encode(self, inputs: Any, input_mask: Array | None = None) -> Array:
        """Inputs → [B, N, D] latents, without dropout."""
        return self.encoder(inputs, input_mask)


def chosen(queries: Array | Tokens, indices: Array) -> Tokens:
    """Some of the queries of each example, with their mask.

    Args:
        queries: [O, E] or [B, O, E], or tokens that are so when dense.
        indices: [b, o] integers, where b or B may be 1.

    Raises:
        ValueError: indices have another shape or type, or name queries that do not exist; under
            `jax.jit`, where this is not known, the answers to such are NaN.
    """
    tokens, indices = Tokens.of(queries), jnp.asarray(indices)
    if indices.ndim != 2 or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"query_indices of shape {indices.shape} and type {indices.dtype} do not choose among "
            f"{tokens.num_tokens} queries; give [B, o] or [1, o] integers"
        )
    remedy = "count the queries from 0, row by row"
    check_indices(indices, tokens.num_tokens, "query_indices", remedy)
    return tokens.at(indices)


class Perceiver(Recordable):
    """Encoder, mean over latents, linear head.

    Args:
        encoder: inputs → latents; usually with repeated cross-attention.
        head: latents → logits.

    Source: Perceiver §3; lucidrains `Perceiver`.
    """

    def __init__(self, encoder: PerceiverEncoder, head: MeanPoolHead):
        self.encoder = encoder
        self.head = head

    @known_arguments()
    def __call__(
        self,
        inputs: Any,
        input_mask: Array | None = None,
        *,
        latents: Array | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Inputs → [B, classes] logits; arguments as in `PerceiverIO`, latents as an array."""
        adapter_key, encode_key = split(key, 2)
        tokens = self.encoder.input_adapter(inputs, as_mask(input_mask), key=adapter_key)
        z = self.encoder.encode(tokens, latents=latents, key=encode_key, tape=tape.at("encoder"))
        if z.segments is not None:
            raise ValueError(
                "the mean over latents mixes the examples of a row; a PerceiverIO takes segments"
            )
        logits = self.head(z.content, z.mask)
        tape.stage("outputs", logits)
        return logits

    @known_arguments()
    def encode(self, inputs: Any, input_mask: Array | None = None) -> Array:
        """Inputs → [B, N, D] latents, without dropout."""
        return self.encoder(inputs, input_mask)
