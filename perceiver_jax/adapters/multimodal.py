"""Several modalities in one array of tokens, and several kinds of answers from one decoder.

- Tokens of all modalities have equally many channels: each is filled up with learned values, which
  also tell the modalities apart. They stand in the order of their names.
- A token may be hidden behind its modality's learned mask token; one that is not given always is.
- Queries are filled up likewise, and stay what they were made of: a grid of pixels is never
  written out.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from perceiver_jax.core.dropout import split
from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class ModalityInput(nnx.Module):
    """The tokens of one modality among others.

    Args:
        adapter: makes its tokens; it also announces `num_tokens`.
        num_channels: channels of all modalities' tokens.
        mask_rate: fraction of its tokens that training hides; 1 hides them always.
        init: initial values of padding and mask token.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        adapter: Any,
        *,
        num_channels: int,
        mask_rate: float,
        init: InitConfig,
        rngs: nnx.Rngs,
    ):
        if not 0.0 <= mask_rate <= 1.0:
            raise ValueError(f"a mask rate of {mask_rate} is not in [0, 1]")
        self.adapter = adapter
        self.mask_rate = mask_rate
        table, missing = init.table(), num_channels - adapter.num_input_channels
        self.padding = nnx.Param(table(rngs.params(), (1, missing), jnp.float32))
        self.mask_token = nnx.Param(table(rngs.params(), (1, num_channels), jnp.float32))

    def __call__(self, inputs: Any, batch: int, key: Key | None) -> Array:
        """[B, ...] of the modality, or None → [B, M, C]."""
        if inputs is None:
            return self._hidden(batch)
        tokens = self.adapter(inputs).dense()
        padding = jnp.broadcast_to(
            self.padding[...].astype(tokens.dtype), (*tokens.shape[:2], self.padding.shape[1])
        )
        tokens = jnp.concatenate([tokens, padding], axis=-1)
        if self.mask_rate == 1.0:
            return self._hidden(batch).astype(tokens.dtype)
        if key is None or self.mask_rate == 0.0:
            return tokens
        hides = jax.random.bernoulli(key, self.mask_rate, (*tokens.shape[:2], 1))
        return jnp.where(hides, self.mask_token[...][None].astype(tokens.dtype), tokens)

    def _hidden(self, batch: int) -> Array:
        token = self.mask_token[...]
        return jnp.broadcast_to(token[None], (batch, self.adapter.num_tokens, token.shape[1]))


class MultimodalInputAdapter(nnx.Module):
    """Tokens of several modalities, one after the other.

    Args:
        adapters: by name, what makes the tokens of a modality; each announces `num_tokens`.
        min_padding_size: learned channels of the modality with most channels; others have more.
        mask_rates: by name, the fraction of a modality's tokens that training hides; 1 hides them
            always, 0 where nothing is said.
        init: initial values of paddings and mask tokens; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: Perceiver IO §4.3 and appendix I; deepmind `MultimodalPreprocessor`.
    Differs: rates below 1 hide in training alone; DeepMind draws in inference as well.
    """

    def __init__(
        self,
        adapters: Mapping[str, Any],
        *,
        min_padding_size: int = 2,
        mask_rates: Mapping[str, float] | None = None,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        rates = dict(mask_rates or {})
        if unknown := rates.keys() - adapters.keys():
            raise ValueError(
                f"mask rates for {sorted(unknown)} name no modality; there are {sorted(adapters)}"
            )
        most = max(adapter.num_input_channels for adapter in adapters.values())
        self.num_input_channels = most + min_padding_size
        self.modality = nnx.Dict(
            {
                name: ModalityInput(
                    adapters[name],
                    num_channels=self.num_input_channels,
                    mask_rate=rates.get(name, 0.0),
                    init=init or InitConfig(),
                    rngs=rngs,
                )
                for name in sorted(adapters)
            }
        )

    def __call__(
        self,
        inputs: Mapping[str, Any],
        input_mask: Array | None = None,
        *,
        key: Key | None = None,
    ) -> Tokens:
        """Modalities by name → their tokens; one that is missing or None is hidden.

        Raises:
            ValueError: a name is unknown, or nothing is given.
        """
        names = sorted(self.modality)
        given = {name: x for name, x in inputs.items() if x is not None}
        if unknown := inputs.keys() - set(names):
            raise ValueError(f"{sorted(unknown)} name no modality; there are {names}")
        if not given:
            raise ValueError(f"there is nothing to look at; give at least one of {names}")
        batches = {name: len(x) for name, x in given.items()}
        if len(set(batches.values())) > 1:
            raise ValueError(f"modalities have different numbers of examples: {batches}")
        batch = next(iter(batches.values()))
        keys = split(key, len(names))
        parts = [
            self.modality[name](given.get(name), batch, one)
            for name, one in zip(names, keys, strict=True)
        ]
        return Tokens(content=jnp.concatenate(parts, axis=1), mask=input_mask)


class ModalityOutput(nnx.Module):
    """The queries and predictions of one modality among others.

    Args:
        head: has `num_query_channels`, `queries() → Tokens`, `head(features)` for each answer and
            `whole(outputs)` for all of them.
        num_channels: channels of all modalities' queries.
        init: initial values of the padding.
        rngs: where initial values come from.
    """

    def __init__(self, head: Any, *, num_channels: int, init: InitConfig, rngs: nnx.Rngs):
        self.head = head
        shape = (1, num_channels - head.num_query_channels)
        self.padding = nnx.Param(init.table()(rngs.params(), shape, jnp.float32))

    def queries(self) -> Tokens:
        """Those of the head, filled up."""
        return filled_up(self.head.queries(), self.padding[...])


class MultimodalHeads(nnx.Module):
    """Queries of several modalities for one cross-attention, and what becomes of the answers.

    Args:
        heads: by name, see `ModalityOutput`.
        min_padding_size: learned channels of the modality with most query channels.
        num_features: channels that all answers are projected to before their head.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: deepmind `MultimodalDecoder` with a `BasicDecoder`, and `MultimodalPostprocessor`.
    Differs: modalities are asked one after the other, which changes nothing: queries do not see
    each other. So this is no `OutputAdapter`: the model asks for `queries` and `finish` by name.
    """

    def __init__(
        self,
        heads: Mapping[str, Any],
        *,
        min_padding_size: int = 2,
        num_features: int,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        init = init or InitConfig()
        most = max(head.num_query_channels for head in heads.values())
        self.num_output_query_channels = most + min_padding_size
        self.linear = linear(self.num_output_query_channels, num_features, init=init, rngs=rngs)
        self.modality = nnx.Dict(
            {
                name: ModalityOutput(
                    heads[name],
                    num_channels=self.num_output_query_channels,
                    init=init,
                    rngs=rngs,
                )
                for name in sorted(heads)
            }
        )

    @property
    def names(self) -> list[str]:
        """The modalities, in order."""
        return sorted(self.modality)

    def queries(self, name: str) -> Tokens:
        """All queries of a modality."""
        return self.modality[name].queries()

    def finish(self, name: str) -> Callable[[Array], Array]:
        """What makes a modality's predictions of answers [B, o, E], each of its own."""
        head = self.modality[name].head
        return lambda answers: head(self.linear(answers))

    def whole(self, name: str, outputs: Array) -> Array:
        """All predictions of a modality in their own shape."""
        return self.modality[name].head.whole(outputs)


def filled_up(queries: Tokens, padding: Array) -> Tokens:
    """Queries with further channels, the same for all of them.

    Args:
        queries: of one example.
        padding: [1, P].
    """
    dtype = jnp.promote_types(queries.content.dtype, padding.dtype)
    if not queries.positions:
        shape = (*queries.content.shape[:-1], padding.shape[1])
        content = jnp.concatenate([queries.content, jnp.broadcast_to(padding, shape)], axis=-1)
        return dataclasses.replace(queries, content=content)
    # A feature of position that does not depend on it: the grid stays a grid.
    *first, last = (jnp.asarray(table, dtype) for table in queries.positions)
    num_before = sum(table.shape[1] for table in queries.positions)
    last = jnp.concatenate(
        [last, jnp.broadcast_to(padding, (len(last), padding.shape[1]))], axis=-1
    )
    order = queries.order or tuple(range(num_before))
    added = np.arange(num_before, num_before + padding.shape[1])
    return Tokens(
        content=queries.content.astype(dtype),
        positions=(*first, last),
        order=(*order, *(int(i) for i in added)),
        mask=queries.mask,
    )
