"""Two frames to tokens, and answers to their optical flow.

- Frames are [B, 2, H, W, 3] floats in [-1, 1], the first one first.
- A token is a pixel: the 3×3 neighbourhoods of that place in both frames, projected, and Fourier
  features. The tokens are also the queries.
- Flow is (dx, dy) in pixels, from the first frame to the second.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from perceiver_jax.core.linear import ComputeDtype, InitConfig, linear, matmul_dtype
from perceiver_jax.core.position import fourier_axes, num_fourier_channels
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key

NUM_FRAMES, PATCH_SIZE, NUM_COLOURS = 2, 3, 3
NUM_PATCH_CHANNELS = NUM_FRAMES * PATCH_SIZE**2 * NUM_COLOURS


class OpticalFlowInputAdapter(nnx.Module):
    """Every pixel is a token: both frames around it, projected, and its position.

    Args:
        image_shape: (H, W) of a frame.
        num_patch_hidden_channels: channels that the 54 values of both neighbourhoods become.
        num_frequency_bands: frequencies F per axis.
        max_resolution: per axis, frequencies go from 1 to half of it; None: (H, W).
        init: initial values of the projection.
        compute_dtype: type in which the projection is computed.
        rngs: where initial values come from.

    Source: Perceiver IO §4.2 and appendix H; deepmind `patches_for_flow` with
    `ImagePreprocessor(prep_type="patches", conv_after_patching=True)`, krasserm
    `OpticalFlowInputAdapter`.
    Differs: takes frames, where the PyTorch libraries take `flow_patches` made before; the
    projection is computed as the convolution that it is, without writing the patches out.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_patch_hidden_channels: int = 64,
        num_frequency_bands: int = 64,
        max_resolution: Sequence[float] | None = None,
        init: InitConfig | None = None,
        compute_dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        height, width = self.image_shape = tuple(image_shape)
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = (height, width) if max_resolution is None else tuple(max_resolution)
        self.compute_dtype: ComputeDtype = compute_dtype
        self.projection = linear(
            NUM_PATCH_CHANNELS,
            num_patch_hidden_channels,
            init=init or InitConfig(),
            compute_dtype=compute_dtype,
            rngs=rngs,
        )
        self.num_input_channels = num_patch_hidden_channels + num_fourier_channels(
            2, num_frequency_bands
        )

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, 2, H, W, 3] frames → tokens of M = H·W pixels."""
        tables, order = fourier_axes(
            self.image_shape,
            num_bands=self.num_frequency_bands,
            max_resolution=self.max_resolution,
        )
        content = self._projected(check_frames(inputs, self.image_shape))
        return Tokens(content=content, positions=tables, order=order, mask=input_mask)

    def _projected(self, frames: Array) -> Array:
        """`projection(flow_patches(frames))`, [B, H, W, num_patch_hidden_channels]."""
        dtype = matmul_dtype(self.compute_dtype) or jnp.result_type(
            frames, self.projection.kernel[...]
        )
        kernel = rearrange(
            self.projection.kernel[...],
            "(t i j c) o -> i j (t c) o",
            t=NUM_FRAMES,
            i=PATCH_SIZE,
            j=PATCH_SIZE,
        )
        convolved = jax.lax.conv_general_dilated(
            rearrange(frames, "b t h w c -> b h w (t c)").astype(dtype),
            kernel.astype(dtype),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        bias = self.projection.bias
        return convolved if bias is None else convolved + bias[...].astype(dtype)[None, None, None]


class OpticalFlowOutputAdapter(nnx.Module):
    """The tokens ask, and every answer becomes the flow of its pixel.

    Args:
        num_output_query_channels: channels E of queries and answers, those of a token.
        rescale_factor: what outputs of the linear layer are divided by.
        flow_scale: pixels that 1 stands for after that.
        init: initial values of the linear layer.
        rngs: where initial values come from.

    Source: deepmind `FlowDecoder(rescale_factor=100)` and the colab's `FLOW_SCALE_FACTOR`, krasserm
    `OpticalFlowOutputAdapter`.
    Differs: the result is in pixels; the references leave `flow_scale` to whoever calls them.
    """

    pointwise = True
    tied = False

    def __init__(
        self,
        *,
        num_output_query_channels: int,
        rescale_factor: float = 100.0,
        flow_scale: float = 20.0,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        self.num_output_query_channels = num_output_query_channels
        self.pixels_per_output = flow_scale / rescale_factor
        self.linear = linear(num_output_query_channels, 2, init=init or InitConfig(), rngs=rngs)

    def make_queries(self, tokens: Tokens) -> Tokens:
        """The tokens themselves; masked pixels are asked for like all others."""
        return dataclasses.replace(tokens, mask=None)

    def __call__(self, outputs: Array) -> Array:
        """[B, O, E] answers → [B, O, 2] flow, pixels, (dx, dy)."""
        return self.linear(outputs) * self.pixels_per_output


def flow_patches(frames: Array) -> Array:
    """[B, 2, H, W, 3] frames → [B, 2, H, W, 27] neighbourhoods, zero beyond the border.

    Channels are ordered (row, column, colour): what the PyTorch libraries' models take, theirs with
    channels before rows.

    Source: deepmind `patches_for_flow`.
    """
    height, width = frames.shape[2:4]
    padded = jnp.pad(frames, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate(
        [
            padded[:, :, i : i + height, j : j + width]
            for i in range(PATCH_SIZE)
            for j in range(PATCH_SIZE)
        ],
        axis=-1,
    )


def check_frames(frames: Array, image_shape: tuple[int, ...]) -> Array:
    """The frames as floats.

    Raises:
        ValueError: their shape is not [B, 2, H, W, 3], or they hold integers.
    """
    frames = jnp.asarray(frames)
    wanted = (NUM_FRAMES, *image_shape, NUM_COLOURS)
    if frames.ndim != 5 or frames.shape[1:] != wanted:
        raise ValueError(
            f"frames of shape {tuple(frames.shape)} do not fit this model, which takes [batch, "
            f"{', '.join(map(str, wanted))}] (two frames, height, width, colours); cut them into "
            "tiles of this size (pipelines.optical_flow does), or build the model with another "
            "image_shape"
        )
    if not jnp.issubdtype(frames.dtype, jnp.floating):
        raise ValueError(
            f"frames of type {frames.dtype} are not normalised; convert them to float in [-1, 1] "
            "first (x / 255 * 2 - 1)"
        )
    return frames
