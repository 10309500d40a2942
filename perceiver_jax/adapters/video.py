"""Videos to tokens, and answers to the pixels of videos.

- Videos are [B, T, H, W, c] floats; a token is a square patch of a frame, an answer is a pixel.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.position import GridEnds, fourier_axes, num_fourier_channels
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class VideoInputAdapter(nnx.Module):
    """Every patch of every frame is a token: its pixels and its place in time and frame.

    Args:
        video_shape: (T, H, W, c).
        patch_size: side of the square patches; divides H and W.
        num_frequency_bands: frequencies F per axis.
        max_resolution: per axis, frequencies go from 1 to half of it; None: the grid of patches.

    Raises:
        ValueError: the patches do not tile a frame.

    Source: Perceiver IO appendix I; deepmind `ImagePreprocessor(prep_type="patches")` of videos;
    patch channels are ordered (row, column, colour).
    """

    def __init__(
        self,
        *,
        video_shape: Sequence[int],
        patch_size: int,
        num_frequency_bands: int,
        max_resolution: Sequence[float] | None = None,
    ):
        self.video_shape = tuple(video_shape)
        self.patch_size = patch_size
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = None if max_resolution is None else tuple(max_resolution)
        self.num_tokens = math.prod(patch_grid(video_shape, patch_size))
        self.num_input_channels = patch_size**2 * self.video_shape[-1] + num_fourier_channels(
            3, num_frequency_bands
        )

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, T, H, W, c] videos → tokens of M = T·H·W / patch_size² patches."""
        video = check_video(inputs, self.video_shape)
        content = rearrange(
            video, "b t (h p) (w q) c -> b t h w (p q c)", p=self.patch_size, q=self.patch_size
        )
        tables, order = fourier_axes(
            content.shape[1:-1],
            num_bands=self.num_frequency_bands,
            max_resolution=self.max_resolution,
        )
        return Tokens(content=content, positions=tables, order=order, mask=input_mask)


class VideoHead(nnx.Module):
    """Asks for every pixel of a video by its place, and makes colours of the answers.

    Args:
        video_shape: (T, H, W, c).
        num_features: channels of an answer.
        num_frequency_bands: frequencies F per axis of the queries.
        max_resolution: per axis, as of the input; None: (T, H, W).
        ends: positions of the queries, see `core.position.linear_positions`.
        init: initial values of the linear layer; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: deepmind `BasicVideoAutoencodingDecoder` and `ProjectionPostprocessor`.
    """

    def __init__(
        self,
        *,
        video_shape: Sequence[int],
        num_features: int,
        num_frequency_bands: int,
        max_resolution: Sequence[float] | None = None,
        ends: GridEnds = "closed",
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        self.video_shape = tuple(video_shape)
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = None if max_resolution is None else tuple(max_resolution)
        self.ends: GridEnds = ends
        self.num_query_channels = num_fourier_channels(3, num_frequency_bands)
        self.linear = linear(
            num_features, self.video_shape[-1], init=init or InitConfig(), rngs=rngs
        )

    def queries(self) -> Tokens:
        """One query for each pixel of each frame, nothing but its position."""
        grid = self.video_shape[:-1]
        tables, order = fourier_axes(
            grid,
            num_bands=self.num_frequency_bands,
            max_resolution=self.max_resolution,
            ends=self.ends,
        )
        return Tokens(content=jnp.zeros((1, *grid, 0)), positions=tables, order=order)

    def __call__(self, features: Array) -> Array:
        """[B, o, num_features] → [B, o, c] colours."""
        return self.linear(features)

    def whole(self, outputs: Array) -> Array:
        """All pixels [B, T·H·W, c] → [B, T, H, W, c] video."""
        return outputs.reshape(len(outputs), *self.video_shape)


def patch_grid(video_shape: Sequence[int], patch_size: int) -> tuple[int, int, int]:
    """How many patches tile a video (T, H, W, c), along time, rows and columns.

    Raises:
        ValueError: they do not.
    """
    frames, height, width, _ = video_shape
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"patch_size={patch_size} does not divide frames of {height}×{width}; choose a common "
            "divisor of both"
        )
    return (frames, height // patch_size, width // patch_size)


def check_video(video: Array, video_shape: tuple[int, ...]) -> Array:
    """The video as floats.

    Raises:
        ValueError: its shape is not [B, *video_shape], or it holds integers.
    """
    video = jnp.asarray(video)
    if video.ndim != 5 or video.shape[1:] != video_shape:
        raise ValueError(
            f"videos of shape {tuple(video.shape)} do not fit this model, which takes [batch, "
            f"{', '.join(map(str, video_shape))}] (frames, height, width, colours); resize or cut "
            "them, or build the model with another video_shape"
        )
    if not jnp.issubdtype(video.dtype, jnp.floating):
        raise ValueError(
            f"videos of type {video.dtype} are not normalised; convert them to float in [0, 1] "
            "first (x / 255)"
        )
    return video
