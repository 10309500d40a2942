"""Fused attention on NVIDIA GPUs: cuDNN's kernel, where it computes what `attend` defines.

- The kernel takes bfloat16 and float16 only, some head sizes only, and even numbers of queries and
  keys, because its gradient refuses odd ones.
- Its causal mask aligns the first query with the first key. Ours aligns the last ones, so that it
  serves only where there are as many queries as keys; elsewhere the mask is written out, in two
  bytes for each query and key, once for all examples and heads.
- It adds large negative numbers where attention may not go. What it makes of a query that may
  attend to nothing is therefore replaced.
"""

import jax
import jax.numpy as jnp
from einops import rearrange

from perceiver_jax.core.dense import MaskedRows, past_keys
from perceiver_jax.typing import Array

IMPLEMENTATION = "cudnn"
"""Which kernel of `jax.nn.dot_product_attention` runs; "xla" shows on a CPU what is asked of it."""


def cuda_capability() -> tuple[int, int] | None:
    """(major, minor) compute capability of the default device; None if it is not from NVIDIA."""
    default = jax.config.values["jax_default_device"]
    device = default if isinstance(default, jax.Device) else jax.local_devices()[0]
    if "cuda" not in device.client.platform_version:
        return None
    major, minor = device.compute_capability.split(".")
    return int(major), int(minor)


def fused_possible(q: Array, k: Array, v: Array, capability: tuple[int, int] | None) -> bool:
    """Whether `attend_fused` can run, and be differentiated; only shapes and types are looked at.

    Args:
        q: [B or 1, N, H, K] queries.
        k: [B or 1, M, H, K] keys.
        v: [B or 1, M, H, V] values.
        capability: see `cuda_capability`. The kernel needs 8.0 (Ampere); heads of more than 128
            channels need 9.0 (Hopper), and none may have more than 256.

    Source: `check_is_flash_attention` in jax 0.10.
    """
    if capability is None or capability < (8, 0):
        return False
    most_channels = 256 if capability >= (9, 0) else 128
    return (
        q.dtype == k.dtype == v.dtype
        and q.dtype in (jnp.bfloat16, jnp.float16)
        and q.shape[-1] == v.shape[-1] <= most_channels
        and q.shape[-1] % 8 == 0
        and q.shape[1] % 2 == k.shape[1] % 2 == 0
    )


def attend_fused(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    causal: bool = False,
    masked_rows: MaskedRows = "zero",
) -> Array:
    """Softmax attention as `attend` defines it, by the fused kernel; see `fused_possible`.

    Args:
        q: [B or 1, N, H, K] queries.
        k: [B or 1, M, H, K] keys.
        v: [B or 1, M, H, K] values.
        mask: [B or 1, H or 1, N or 1, M] bool, True = may attend; None attends everywhere.
        causal: query i attends to keys up to M - N + i, where the mask allows them as well.
        masked_rows: result of a query that may attend to nothing: "zero", or "uniform" for the mean
            of all M values.

    Returns:
        [B or 1, N, H * K], heads side by side.

    Raises:
        ValueError: causal attention of more queries than there are keys.
    """
    num_queries, num_keys = q.shape[1], k.shape[1]
    batch = max(len(x) for x in (q, k, v, mask) if x is not None)
    q, k, v = (jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in (q, k, v))
    by_kernel = causal and mask is None and num_queries == num_keys
    if causal and not by_kernel:
        past = past_keys(num_queries, num_keys)
        mask = past if mask is None else mask & past
    if mask is not None:
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], num_queries, num_keys))
    result = jax.nn.dot_product_attention(
        q, k, v, mask=mask, is_causal=by_kernel, implementation=IMPLEMENTATION
    )
    if mask is not None:
        sees = rearrange(mask.any(-1), "b h n -> b n h 1")
        if masked_rows == "uniform":
            nothing = v.mean(1, keepdims=True, dtype=jnp.float32).astype(v.dtype)
        else:
            nothing = jnp.zeros((), v.dtype)
        result = jnp.where(sees, result, nothing)
    return rearrange(result, "b n h v -> b n (h v)")
