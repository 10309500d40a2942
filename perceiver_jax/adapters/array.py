"""Arrays of any number of axes to tokens: time series, point sets, grids, volumes.

- Inputs are [B, *grid, c], channels last, floats; the grid may have other sizes at every call.
- Fourier features of the position along each axis are concatenated where they are asked for.
"""

import math

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.position import ChannelOrder, fourier_axes, num_fourier_channels
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class ArrayInputAdapter(nnx.Module):
    """Every element of a grid is a token: its channels, and the Fourier features of its position.

    Args:
        num_input_channels: channels c of an element.
        num_axes: axes of the grid; 1 for sequences and sets.
        num_frequency_bands: frequencies F per axis; 0 leaves positions out.
        max_frequency: on every axis, frequencies go from 1 to half of it; None: to half of the
            size that the axis has in the inputs at hand.
        channel_order: order of the position channels, see `core.position.fourier_axes`.

    Source: lucidrains `Perceiver(input_channels=..., input_axis=...)`.
    """

    def __init__(
        self,
        *,
        num_input_channels: int,
        num_axes: int = 1,
        num_frequency_bands: int = 0,
        max_frequency: float | None = None,
        channel_order: ChannelOrder = "deepmind",
    ):
        self.num_content_channels = num_input_channels
        self.num_axes = num_axes
        self.num_frequency_bands = num_frequency_bands
        self.max_frequency = max_frequency
        self.channel_order: ChannelOrder = channel_order
        num_position_channels = (
            num_fourier_channels(num_axes, num_frequency_bands) if num_frequency_bands else 0
        )
        self.num_input_channels = num_input_channels + num_position_channels

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, *grid, c] inputs → tokens of M = product of the grid's sizes elements.

        The mask is [B, *grid] or [B, M].

        Raises:
            ValueError: inputs or mask have another shape, or the inputs hold integers.
        """
        inputs = self._check(jnp.asarray(inputs))
        mask = None if input_mask is None else _flat(jnp.asarray(input_mask), inputs.shape[:-1])
        if not self.num_frequency_bands:
            return Tokens(content=inputs, mask=mask)
        grid = inputs.shape[1:-1]
        tables, order = fourier_axes(
            grid,
            num_bands=self.num_frequency_bands,
            max_resolution=None if self.max_frequency is None else [self.max_frequency] * len(grid),
            channel_order=self.channel_order,
        )
        return Tokens(content=inputs, positions=tables, order=order, mask=mask)

    def _check(self, inputs: Array) -> Array:
        if inputs.ndim != self.num_axes + 2 or inputs.shape[-1] != self.num_content_channels:
            grid = ", ".join(f"size {i + 1}" for i in range(self.num_axes))
            raise ValueError(
                f"inputs of shape {tuple(inputs.shape)} do not fit this model, which takes "
                f"[batch, {grid}, {self.num_content_channels}], channels last; reshape or "
                "transpose them, or build the model with other num_axes and num_input_channels"
            )
        if not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ValueError(
                f"inputs of type {inputs.dtype} are not numbers on a scale; convert them to float, "
                "of about unit size"
            )
        return inputs


def _flat(mask: Array, shape: tuple[int, ...]) -> Array:
    """[B, *grid] or [B, M] → [B, M]."""
    flat = (shape[0], math.prod(shape[1:]))
    if mask.shape not in (shape, flat):
        wanted = " or ".join(str(s) for s in dict.fromkeys((shape, flat)))
        raise ValueError(
            f"input_mask of shape {mask.shape} does not fit the inputs; it takes {wanted}, one "
            "bool per element"
        )
    return mask.reshape(flat)
