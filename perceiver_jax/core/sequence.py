"""An embedded sequence with positions and mask, and what training leaves out of it."""

import dataclasses

import jax
import jax.numpy as jnp

from perceiver_jax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class EmbeddedSequence:
    """What latents at the end of a sequence attend to.

    Attributes:
        content: [B, M, C].
        positions: [B or 1, M] for rotation; may be real.
        mask: [B or 1, M] bool, True = a token; None: all are.
        places: [B, M] places in the whole sequence, rising; None: its last element is the last of
            the whole, and nothing lies between the latents.
    """

    content: Array
    positions: Array
    mask: Array | None = None
    places: Array | None = None

    def take(self, kept: Array) -> "EmbeddedSequence":
        """The elements at [B, K] places."""

        def take(x):
            x = jnp.broadcast_to(x, (len(kept), *x.shape[1:]))
            return jnp.take_along_axis(x, kept.reshape(*kept.shape, *[1] * (x.ndim - 2)), axis=1)

        mask = None if self.mask is None else take(self.mask)
        return dataclasses.replace(
            self, content=take(self.content), positions=take(self.positions), mask=mask
        )


def drop_prefix(
    sequence: EmbeddedSequence, num_latents: int, rate: float, key: Key | None
) -> EmbeddedSequence:
    """Leaves `int(rate * P)` random positions of each example's prefix out, and the rest in order.

    Args:
        sequence: P elements of prefix, then latents.
        num_latents: positions with latents, which stay.
        rate: fraction to leave out, in [0, 1).
        key: random key; None leaves nothing out.

    Source: Perceiver AR §4.1 (memory of training); krasserm and lucidrains `cross_attn_dropout`.
    """
    num_positions = sequence.content.shape[1]
    num_prefix = num_positions - num_latents
    num_dropped = int(rate * num_prefix)
    if key is None or num_dropped == 0:
        return sequence
    batch = len(sequence.content)
    noise = jax.random.uniform(key, (batch, num_prefix))
    kept = jnp.sort(jnp.argsort(noise, axis=1)[:, num_dropped:], axis=1)
    latents = jnp.broadcast_to(jnp.arange(num_prefix, num_positions), (batch, num_latents))
    return sequence.take(jnp.concatenate([kept, latents], axis=1))


def draw_inputs(
    sequence: EmbeddedSequence, num_inputs: int | None, key: Key | None
) -> EmbeddedSequence:
    """So many random positions of each example, latents' own among the others.

    Args:
        sequence: M elements.
        num_inputs: how many to keep; None, or as many as there are: all.
        key: random key; None keeps all.

    Source: perceiver-ar `train_input_positions`.
    """
    batch, num_positions = sequence.content.shape[:2]
    if key is None or num_inputs is None or num_inputs >= num_positions:
        return sequence
    noise = jax.random.uniform(key, (batch, num_positions))
    kept = jnp.sort(jnp.argsort(noise, axis=1)[:, :num_inputs], axis=1)
    return dataclasses.replace(sequence.take(kept), places=kept)


def hide_inputs(sequence: EmbeddedSequence, rate: float, key: Key | None) -> EmbeddedSequence:
    """Masks each position with this chance.

    Source: perceiver-ar `encoder_dropout_prob`.
    """
    if key is None or rate == 0.0:
        return sequence
    seen = jax.random.bernoulli(key, 1.0 - rate, sequence.content.shape[:2])
    return dataclasses.replace(
        sequence, mask=seen if sequence.mask is None else seen & sequence.mask
    )
