"""The convolutional stem of DeepMind's third ImageNet model: conv, batch norm, relu, max-pool.

- Each layer divides height and width by about four. Padding is SAME as TensorFlow and XLA mean it,
  which puts the odd pixel at the end; or that of the PyTorch port, which sees other positions.
- Batch statistics are those of the whole batch: under `jax.jit` with a sharded batch the norm is
  synchronised over devices, unlike under `jax.pmap`.
- Running statistics are unbiased from the first step on (Haiku's zero-debiased averages).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.linear import ComputeDtype, InitConfig, matmul_dtype
from perceiver_jax.typing import Array

ConvPadding = Literal["same", "symmetric"]
"""Of a stem layer: "same" (DeepMind); "symmetric" (Hugging Face): three zeros on every side of the
convolution's input, none around the pool's."""


class BatchNorm(nnx.Module):
    """Batch norm over all axes but the last.

    Args:
        num_channels: channels.
        decay: of the running averages.
        epsilon: added to the variance.

    Source: haiku `BatchNorm` with `ExponentialMovingAverage(zero_debias=True)`.
    Differs: the biased sum that Haiku stores beside each average is computed from the average and
    the step count instead.
    """

    def __init__(self, num_channels: int, *, decay: float = 0.9, epsilon: float = 1e-5):
        self.decay, self.epsilon = decay, epsilon
        self.scale = nnx.Param(jnp.ones(num_channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(num_channels, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(num_channels, jnp.float32))
        self.var = nnx.BatchStat(jnp.zeros(num_channels, jnp.float32))
        self.count = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, x: Array, *, training: bool) -> Array:
        """Normalises [..., C] by stored statistics, or in training by the batch's own.

        Training also updates the stored ones.
        """
        axes = tuple(range(x.ndim - 1))
        if training:
            y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            mean = y.mean(axes)
            # Rounding may take the difference of a nearly constant channel below zero.
            var = jnp.maximum(jnp.square(y).mean(axes) - jnp.square(mean), 0.0)
            self._update(mean, var)
        else:
            mean, var = self.mean[...], self.var[...]
        scale = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        mean, scale, bias = (jnp.expand_dims(v, axes) for v in (mean, scale, self.bias[...]))
        return (x - mean) * scale + bias

    def _update(self, mean: Array, var: Array) -> None:
        count = self.count[...]
        seen = 1.0 - self.decay ** count.astype(jnp.float32)
        total = 1.0 - self.decay ** (count + 1).astype(jnp.float32)
        for stored, new in ((self.mean, mean), (self.var, var)):
            stored[...] = (self.decay * seen * stored[...] + (1.0 - self.decay) * new) / total
        self.count[...] = count + 1


class ConvStemLayer(nnx.Module):
    """7×7 convolution with stride 2, batch norm, relu, 3×3 max-pool with stride 2."""

    def __init__(
        self,
        num_in: int,
        num_out: int,
        *,
        batch_norm: bool,
        padding: ConvPadding,
        init: InitConfig,
        compute_dtype: ComputeDtype,
        rngs: nnx.Rngs,
    ):
        self.padding = padding
        self.conv = nnx.Conv(
            num_in,
            num_out,
            kernel_size=(7, 7),
            strides=2,
            padding="SAME" if padding == "same" else 3,
            use_bias=False,
            kernel_init=init.kernel(),
            dtype=matmul_dtype(compute_dtype),
            rngs=rngs,
        )
        self.batch_norm = batch_norm
        if batch_norm:
            self.norm = BatchNorm(num_out)

    def __call__(self, x: Array, *, training: bool) -> Array:
        """[B, H, W, c] → [B, h, w, num_out], see `stem_grid`."""
        x = self.conv(x)
        if self.batch_norm:
            x = self.norm(x, training=training)
        x = jax.nn.relu(x)
        window, strides = (1, 3, 3, 1), (1, 2, 2, 1)
        padding = "SAME" if self.padding == "same" else "VALID"
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)


class ConvStem(nnx.Module):
    """Stem layers, one after the other.

    Args:
        num_image_channels: channels of the image.
        num_channels: channels of every layer.
        num_layers: layers, see `stem_grid`.
        batch_norm: whether layers have a batch norm.
        padding: see `ConvPadding`.
        init: initial values of the convolutions.
        compute_dtype: type in which convolutions are computed.
        rngs: where initial values come from.

    Source: Perceiver IO appendix (2D convolutional preprocessing); deepmind `Conv2DDownsample`,
    Hugging Face `Conv2DDownsample` for "symmetric".
    """

    def __init__(
        self,
        *,
        num_image_channels: int,
        num_channels: int = 64,
        num_layers: int = 1,
        batch_norm: bool = True,
        padding: ConvPadding = "same",
        init: InitConfig,
        compute_dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        self.layer = nnx.List(
            [
                ConvStemLayer(
                    num_image_channels if i == 0 else num_channels,
                    num_channels,
                    batch_norm=batch_norm,
                    padding=padding,
                    init=init,
                    compute_dtype=compute_dtype,
                    rngs=rngs,
                )
                for i in range(num_layers)
            ]
        )

    def __call__(self, x: Array, *, training: bool) -> Array:
        """[B, H, W, c] → [B, h, w, num_channels], see `stem_grid`."""
        for layer in self.layer:
            x = layer(x, training=training)
        return x


def stem_grid(image: tuple[int, int], padding: ConvPadding, num_layers: int = 1) -> tuple[int, int]:
    """Height and width of what a stem makes of an image of that height and width.

    With "same" each layer divides by four and rounds up; with "symmetric" the last row or column
    may be missing: 224 → 55.

    Raises:
        ValueError: the image is so small that nothing is left.
    """

    def layer(size: int) -> int:
        convolved = -(-size // 2)
        return -(-convolved // 2) if padding == "same" else (convolved - 1) // 2

    height, width = image
    for _ in range(num_layers):
        height, width = layer(height), layer(width)
    if height < 1 or width < 1:
        raise ValueError(
            f"a stem of {num_layers} layers with conv_padding='{padding}' leaves nothing of "
            f"images of {image[0]}×{image[1]}; take larger images, or conv_padding='same'"
        )
    return height, width
