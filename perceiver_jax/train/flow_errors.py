"""How far optical flow is from the truth: end-point errors and the outliers of the benchmarks."""

import jax
import jax.numpy as jnp

from perceiver_jax.typing import Array, Sums

THRESHOLDS = (1, 3, 5)
"""Pixels of error from which on a flow is an outlier."""


def end_point_errors(flow: Array, truth: Array, valid: Array) -> jax.Array:
    """Distances of the ends of two flow vectors.

    Args:
        flow: [..., 2] pixels.
        truth: [..., 2] pixels; may be anything where it is not valid.
        valid: [...] bool.

    Returns:
        [...] pixels, in at least float32; 0 where not valid.
    """
    difference = flow.astype(jnp.promote_types(flow.dtype, jnp.float32)) - truth
    squared = jnp.square(jnp.where(valid[..., None], difference, 0.0)).sum(-1)
    # The root has no gradient at 0, where every flow that is not valid is.
    return jnp.where(squared > 0.0, jnp.sqrt(jnp.where(squared > 0.0, squared, 1.0)), 0.0)


def flow_sums(flow: Array, truth: Array, valid: Array) -> Sums:
    """End-point error and shares of outliers over valid pixels, and the error of no flow at all.

    `fl_all` is the share of pixels that are off by more than 3 pixels and by more than 5 % of the
    true displacement (KITTI 2015).

    Args:
        flow: [B, ..., 2] pixels.
        truth: [B, ..., 2] pixels.
        valid: [B, ...] bool.
    """
    errors = end_point_errors(flow, truth, valid)
    lengths = end_point_errors(jnp.zeros_like(errors)[..., None], truth, valid)
    total = valid.sum().astype(errors.dtype)

    def share(found: Array) -> tuple[Array, Array]:
        return (found & valid).sum().astype(errors.dtype), total

    return {
        "end_point_error": (errors.sum(), total),
        **{f"outliers_{n}px": share(errors > n) for n in THRESHOLDS},
        "fl_all": share((errors > 3.0) & (errors > 0.05 * lengths)),
        "end_point_error_of_no_flow": (lengths.sum(), total),
    }
