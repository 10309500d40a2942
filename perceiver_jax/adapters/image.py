"""Images to tokens: pixels, patches, a convolutional stem, or projected pixels.

- Images are [B, H, W, c], channels last, floats; rows before columns wherever axes are ordered.
- Pixels, patches and stem concatenate Fourier features of a position's row and column; projected
  pixels concatenate projected learned positions.
- Tables are made from the image shape at each call, small and per axis; none is a parameter.
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence

import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from perceiver_jax.adapters.conv_stem import ConvPadding, ConvStem, stem_grid
from perceiver_jax.config import check_size
from perceiver_jax.core.known_values import frames_to_caller, known
from perceiver_jax.core.linear import ComputeDtype, InitConfig, linear
from perceiver_jax.core.position import ChannelOrder, fourier_axes, num_fourier_channels
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key

LARGEST_COLOUR = 16.0
"""What no usual normalisation of colours reaches, neither to [-1, 1] nor to unit variance."""


class ImageInputAdapter(nnx.Module):
    """Every pixel is a token: its colours and the Fourier features of its position.

    Args:
        image_shape: (H, W, c).
        num_frequency_bands: frequencies F per axis; 0 leaves positions out.
        max_resolution: per axis, frequencies go from 1 to half of it; None: (H, W).
        channel_order: order of the position channels, see `core.position.fourier_axes`.

    Source: Perceiver IO appendix A; deepmind `ImagePreprocessor(prep_type="pixels")`, krasserm
    `ImageInputAdapter`.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_frequency_bands: int,
        max_resolution: Sequence[float] | None = None,
        channel_order: ChannelOrder = "deepmind",
    ):
        self.image_shape = checked_shape(image_shape)
        self.positions = _grid_positions(num_frequency_bands, max_resolution, channel_order)
        self.num_input_channels = self.image_shape[-1] + self.positions.num_channels

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, H, W, c] images → tokens of M = H·W pixels."""
        return self.positions.tokens(check_image(inputs, self.image_shape), input_mask)


class PatchImageInputAdapter(nnx.Module):
    """Every patch is a token: its pixels, or a projection of them, and Fourier features.

    Args:
        image_shape: (H, W, c).
        patch_size: side of the square patches; divides H and W. A patch as large as the image
            makes the whole image one token.
        num_patch_channels: channels that patches are projected to; None takes the pixels.
        num_frequency_bands: frequencies F per axis of the grid of patches; 0 leaves positions out.
        max_resolution: per axis, frequencies go from 1 to half of it; None: the grid of patches.
        channel_order: order of the position channels.
        init: initial values of the projection.
        compute_dtype: type in which the projection is computed.
        rngs: where initial values come from.

    Raises:
        ValueError: the patches do not tile the image.

    Source: deepmind `ImagePreprocessor(prep_type="patches")`; patch channels are ordered (row,
    column, colour).
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        patch_size: int,
        num_patch_channels: int | None = None,
        num_frequency_bands: int,
        max_resolution: Sequence[float] | None = None,
        channel_order: ChannelOrder = "deepmind",
        init: InitConfig | None = None,
        compute_dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        height, width, colours = self.image_shape = checked_shape(image_shape)
        if height % patch_size or width % patch_size:
            raise ValueError(
                f"patch_size={patch_size} does not divide the image of {height}×{width}; choose a "
                "common divisor of both"
            )
        self.patch_size = patch_size
        self.positions = _grid_positions(num_frequency_bands, max_resolution, channel_order)
        num_pixels = patch_size**2 * colours
        self.projected = num_patch_channels is not None
        if num_patch_channels is not None:
            self.projection = linear(
                num_pixels,
                num_patch_channels,
                init=init or InitConfig(),
                compute_dtype=compute_dtype,
                rngs=rngs,
            )
        self.num_input_channels = (num_patch_channels or num_pixels) + self.positions.num_channels

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, H, W, c] images → tokens of M = H·W / patch_size² patches."""
        patches = space_to_depth(check_image(inputs, self.image_shape), self.patch_size)
        if self.projected:
            patches = self.projection(patches)
        return self.positions.tokens(patches, input_mask)


class ConvImageInputAdapter(nnx.Module):
    """Every cell of a convolutional stem's output is a token, with Fourier features.

    Args:
        image_shape: (H, W, c).
        num_channels: channels of the stem.
        num_layers: stem layers; each divides height and width by about four.
        batch_norm: whether the stem has batch norms.
        padding: of the stem, see `ConvPadding`.
        num_frequency_bands: frequencies F per axis of the output grid; 0 leaves positions out.
        max_resolution: per axis, frequencies go from 1 to half of it; None: the output grid.
        channel_order: order of the position channels.
        init: initial values of the convolutions.
        compute_dtype: type in which convolutions are computed.
        rngs: where initial values come from.

    Raises:
        ValueError: the images are too small for the stem.

    Source: deepmind `ImagePreprocessor(prep_type="conv")`; Hugging Face
    `PerceiverImagePreprocessor` for padding "symmetric".
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_channels: int = 64,
        num_layers: int = 1,
        batch_norm: bool = True,
        padding: ConvPadding = "same",
        num_frequency_bands: int,
        max_resolution: Sequence[float] | None = None,
        channel_order: ChannelOrder = "deepmind",
        init: InitConfig | None = None,
        compute_dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        height, width, _ = self.image_shape = checked_shape(image_shape)
        self.grid = stem_grid((height, width), padding, num_layers)
        self.positions = _grid_positions(num_frequency_bands, max_resolution, channel_order)
        self.stem = ConvStem(
            num_image_channels=self.image_shape[-1],
            num_channels=num_channels,
            num_layers=num_layers,
            batch_norm=batch_norm,
            padding=padding,
            init=init or InitConfig(),
            compute_dtype=compute_dtype,
            rngs=rngs,
        )
        self.num_input_channels = num_channels + self.positions.num_channels

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, H, W, c] images → tokens of the M cells of `self.grid`.

        A key means training: batch norms use and update the batch's statistics.
        """
        images = check_image(inputs, self.image_shape)
        return self.positions.tokens(self.stem(images, training=key is not None), input_mask)


class LearnedImageInputAdapter(nnx.Module):
    """Every pixel is a token: its projected colours and a projected learned position.

    Args:
        image_shape: (H, W, c).
        num_channels: channels that colours are projected to (a 1×1 convolution).
        num_position_channels: channels of the learned table.
        num_projected_position_channels: channels that the table is projected to.
        init: initial values.
        compute_dtype: type in which projections are computed.
        rngs: where initial values come from.

    Source: deepmind `ImagePreprocessor(prep_type="conv1x1",
    position_encoding_type="trainable", project_pos_dim=...)`.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_channels: int = 256,
        num_position_channels: int = 256,
        num_projected_position_channels: int = 256,
        init: InitConfig | None = None,
        compute_dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        self.image_shape = checked_shape(image_shape)
        init = init or InitConfig()

        def projection(num_in, num_out):
            return linear(num_in, num_out, init=init, compute_dtype=compute_dtype, rngs=rngs)

        self.projection = projection(self.image_shape[-1], num_channels)
        shape = (math.prod(self.image_shape[:-1]), num_position_channels)
        self.positions = nnx.Param(init.table()(rngs.params(), shape, jnp.float32))
        self.position_projection = projection(
            num_position_channels, num_projected_position_channels
        )
        self.num_input_channels = num_channels + num_projected_position_channels

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, H, W, c] images → tokens of M = H·W pixels."""
        pixels = rearrange(check_image(inputs, self.image_shape), "b h w c -> b (h w) c")
        return Tokens(
            content=self.projection(pixels),
            positions=(self.position_projection(self.positions[...]),),
            mask=input_mask,
        )


@dataclasses.dataclass(frozen=True)
class _GridPositions:
    """Fourier features of whatever grid a stage of image processing ends on.

    Equal by value: compiled functions are shared by models of the same structure.
    """

    num_bands: int
    max_resolution: tuple[float, ...] | None
    channel_order: ChannelOrder

    @property
    def num_channels(self) -> int:
        return num_fourier_channels(2, self.num_bands) if self.num_bands else 0

    def tokens(self, content: Array, mask: Array | None) -> Tokens:
        """[B, h, w, c] content → tokens with the positions of its grid."""
        if not self.num_bands:
            return Tokens(content=content, mask=mask)
        tables, order = fourier_axes(
            content.shape[1:-1],
            num_bands=self.num_bands,
            max_resolution=self.max_resolution,
            channel_order=self.channel_order,
        )
        return Tokens(content=content, positions=tables, order=order, mask=mask)


def _grid_positions(
    num_bands: int, max_resolution: Sequence[float] | None, channel_order: ChannelOrder
) -> _GridPositions:
    resolution = None if max_resolution is None else tuple(max_resolution)
    return _GridPositions(num_bands, resolution, channel_order)


def space_to_depth(images: Array, patch_size: int) -> Array:
    """[B, H, W, c] → [B, H/p, W/p, p·p·c], channels ordered (row, column, colour)."""
    return rearrange(images, "b (h p) (w q) c -> b h w (p q c)", p=patch_size, q=patch_size)


def checked_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """(H, W, c) of whole numbers.

    Raises:
        ValueError: it is something else.
    """
    shape = tuple(image_shape)
    if len(shape) != 3:
        raise ValueError(
            f"image_shape={shape} is not valid; it takes (height, width, channels), such as "
            "(28, 28, 1)"
        )
    for name, size in zip(("height", "width", "channels"), shape, strict=True):
        check_size(f"{name} of image_shape", size)
    return shape


def check_image(images: Array, image_shape: tuple[int, ...]) -> Array:
    """The images as floats.

    Raises:
        ValueError: their shape is not [B, *image_shape], or they hold integers.

    Warns of colours such as those from 0 to 255, where they are known (outside of `jax.jit`).
    """
    images = jnp.asarray(images)
    if images.ndim != 1 + len(image_shape) or images.shape[1:] != image_shape:
        remedy = "resize or transpose them, or build the model with another image_shape"
        if images.shape == image_shape:
            remedy = "a single image is a batch of one: image[None]"
        raise ValueError(
            f"images of shape {tuple(images.shape)} do not fit this model, which takes "
            f"[batch, {', '.join(map(str, image_shape))}] (height, width, channels last); {remedy}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images of type {images.dtype} are not normalised; convert them to float in [-1, 1] "
            "first, as the data pipeline does"
        )
    values = known(images)
    if values is not None and values.size and abs(values).max() > LARGEST_COLOUR:
        warnings.warn(
            f"images from {values.min():g} to {values.max():g} are hardly normalised; bring them "
            "to [-1, 1], or to what the model was trained on",
            stacklevel=frames_to_caller(),
        )
    return images
