"""Classification losses, one value per example, in at least float32."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from perceiver_jax.typing import Array

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
