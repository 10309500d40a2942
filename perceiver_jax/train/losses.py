"""Losses of examples and of tokens, in at least float32."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from perceiver_jax.typing import Array, Sums

ClassificationLoss = Literal["cross_entropy", "mean_squared_error"]


def smooth(targets: Array, smoothing: float) -> Array:
    """[B, K] target distributions with `smoothing` of their mass spread evenly over all classes.

    Source: deepmind ImageNet training, `(1 - ε) y + ε / K`.
    """
    return (1.0 - smoothing) * targets + smoothing / targets.shape[-1]


def classification_loss(logits: Array, targets: Array, kind: ClassificationLoss) -> jax.Array:
    """How far predictions are from target distributions.

    Args:
        logits: [B, K].
        targets: [B, K] distributions over classes, one-hot or smoothed.
        kind: "cross_entropy" of the softmax of the logits, or "mean_squared_error" of the logits
            themselves over the K classes (Buehler's MNIST classifier).

    Returns:
        [B] losses, natural units.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if kind == "mean_squared_error":
        return jnp.square(logits - targets).mean(-1)
    return optax.softmax_cross_entropy(logits, targets)


def multi_label_loss(logits: Array, targets: Array) -> jax.Array:
    """Binary cross-entropy of each class by itself, added over the classes.

    Args:
        logits: [B, K].
        targets: [B, K] probabilities or bools.

    Returns:
        [B] losses, natural units.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return optax.sigmoid_binary_cross_entropy(logits, targets.astype(logits.dtype)).sum(-1)


def token_losses(
    logits: Array, targets: Array, *, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> jax.Array:
    """Cross-entropy of tokens with what keeps training calm.

    Args:
        logits: [..., V], of at least float32.
        targets: [...] ids.
        label_smoothing: mass ε that is spread over the other V - 1 tokens; the least possible loss
            is taken off, so that it stays 0.
        z_loss: factor of the squared log of the softmax's normaliser, which is added.

    Returns:
        [...] losses, natural units.

    Source: perceiver-ar `losses.compute_weighted_cross_entropy`.
    Differs: from `smooth`, which spreads over all classes.
    """
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    losses = log_z - target
    if label_smoothing > 0.0:
        num_others = logits.shape[-1] - 1
        share = label_smoothing / num_others
        kept = 1.0 - label_smoothing
        least = -kept * math.log(kept) - label_smoothing * math.log(share)
        losses = log_z - (kept - share) * target - share * logits.sum(-1) - least
    if z_loss > 0.0:
        losses = losses + z_loss * jnp.square(log_z)
    return losses


def token_sums(
    logits: Array,
    targets: Array,
    counted: Array,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Sums:
    """Loss and accuracy over tokens.

    Args:
        logits: [B, M, V].
        targets: [B, M] ids.
        counted: [B, M] bool, where tokens count.
        label_smoothing: see `token_losses`.
        z_loss: see `token_losses`.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    weights = counted.astype(logits.dtype)
    losses = token_losses(logits, targets, label_smoothing=label_smoothing, z_loss=z_loss)
    target = jnp.take_along_axis(logits, targets[:, :, None], axis=-1)
    # The target alone is as large as the target; on CPU an argmax takes longer than all the rest.
    right = (logits >= target).sum(-1) == 1
    total = weights.sum()
    return {"loss": ((losses * weights).sum(), total), "accuracy": ((right * weights).sum(), total)}
