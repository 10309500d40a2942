"""Attention rollout: what a result goes back to, through all attentions before it.

- In NumPy, on maps that `model.attention_maps` recorded; of any modality.
- It follows the weights alone. What values, output projections and MLPs do is not in it, so it is
  no attribution: it tells where a result may come from, not what made it so.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from perceiver_jax.typing import Array

CROSS, LAYER = "encoder/step/{}/cross_attention", "encoder/step/{}/block/layer/{}"
"""Names of maps."""


class Rollout(NamedTuple):
    """What rows go back to.

    Attributes:
        inputs: [B, O, M] share of each input element. A row sums to less than 1 where
            cross-attentions are residual: the rest goes back to the learned latents, which know
            nothing of the input.
        latents: [B, O, N] for each cross-attention of the encoder, in order: share that came in
            through each latent there. `inputs` is the sum of `latents[i] @ weights[i]`.
    """

    inputs: np.ndarray
    latents: tuple[np.ndarray, ...]


def attention_rollout(
    maps: Mapping[str, np.ndarray | Array],
    rows: np.ndarray | Array,
    *,
    cross_attention_residual: bool = True,
    latents_contribute_kv: bool = False,
) -> Rollout:
    """Rolls rows of weights back from the encoder's last latents to its input.

    A layer `x + attention(x)` counts as `0.5 I + 0.5 A`, with A the mean over heads; layers are
    multiplied, blocks and cross-attentions that share weights once for each time that they are
    applied. A residual cross-attention halves what goes back to the latents before it, and the
    other half goes to the input.

    Args:
        maps: [B or 1, H, queries, keys] by the names of `attention_maps`, in any order.
        rows: [B or 1, O, N] weights of the last latents: a decoder's map, averaged over heads;
            1/N each for their mean; or the identity for each of the latents.
        cross_attention_residual: that field of the encoder's config.
        latents_contribute_kv: that field of the encoder's config: what goes to a latent itself goes
            back to the latents before.

    Raises:
        ValueError: there is no map of an encoder's cross-attention.

    Source: Abnar and Zuidema 2020, Quantifying attention flow in transformers, §3.
    Differs: rows are multiplied from the result backwards, which is the same product and needs no
    matrix of latents by inputs; cross-attentions, which that paper has none of.
    """
    if CROSS.format(0) not in maps:
        raise ValueError(
            f"there is no {CROSS.format(0)} among {len(maps)} maps; give those that attention_maps "
            "of a model with an encoder returned"
        )
    share = 0.5 if cross_attention_residual else 1.0
    rows, inputs, latents = np.asarray(rows), np.float32(0), []
    for step in reversed(range(_count(LAYER.format("{}", 0), maps))):
        for layer in reversed(range(_count(LAYER.format(step, "{}"), maps))):
            rows = 0.5 * rows + 0.5 * rows @ mean_of_heads(maps[LAYER.format(step, layer)])
        if CROSS.format(step) in maps:
            through = share * rows
            found = through @ mean_of_heads(maps[CROSS.format(step)])
            # Latents that contribute keys come after the inputs.
            num_inputs = found.shape[-1] - (rows.shape[-1] if latents_contribute_kv else 0)
            inputs = inputs + found[..., :num_inputs]
            latents.append(through)
            rows = rows - through
            if latents_contribute_kv:
                rows = rows + found[..., num_inputs:]
    return Rollout(np.asarray(inputs), tuple(reversed(latents)))


def mean_of_heads(weights: np.ndarray | Array) -> np.ndarray:
    """[B, H, queries, keys] → [B, queries, keys]."""
    return np.asarray(weights).mean(axis=1)


def _count(name: str, maps: Mapping[str, np.ndarray | Array]) -> int:
    """How many maps there are of that name, numbered from 0 on."""
    return next(i for i in itertools.count() if name.format(i) not in maps)
