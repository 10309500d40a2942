"""krasserm/perceiver-io 0.11 (PyTorch): the image classifier.

- Names are those of the backend model's state dict; Lightning and Hugging Face files put `model.`
  or `backend_model.` before them.
- `0.` is the encoder and `1.` the decoder; a layer without residual lacks `module.` in its names.
- Second and later cross-attentions always share weights with each other, and so do blocks.
- Exact GELU, and uniform attention where everything is masked: see `config`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.formats.settings import check_settings, layer_settings
from interop.ops import TRANSPOSE
from interop.rows import Arrays, Row, ignore, row, table
from perceiver_jax.config import ConfigError, from_dict
from perceiver_jax.core.position import fourier_features, linear_positions
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.models.perceiver_config import check_half

BUFFER_TOLERANCE = 1e-4
"""The reference computes its Fourier features in float32: sines of angles up to 350 rad."""


def config(hyperparameters: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the reference's, as a nested dict of its dataclasses.

    Raises:
        ConfigError: a setting that the reference's image classifier does not have.
    """
    left = dict(hyperparameters)
    for name in ("encoder", "decoder", "num_latents", "num_latent_channels"):
        if name not in left:
            raise ConfigError(f"the hyperparameters of an image classifier have no '{name}'")
    encoder, decoder = dict(left.pop("encoder")), dict(left.pop("decoder"))
    encoder["remat"] = left.pop("activation_checkpointing", False)
    left.pop("activation_offloading", None)
    for half in (encoder, decoder):
        # Says what to train, not what to compute.
        half.pop("freeze", None)
        half["masked_rows"] = "uniform"
    # The reference's image classifier has one query, whatever this setting says.
    decoder["num_output_queries"] = 1
    halves = {
        "encoder": from_dict(ImageEncoderConfig, encoder, "config.encoder"),
        "decoder": from_dict(ClassificationDecoderConfig, decoder, "config.decoder"),
    }
    sizes = {name: left.pop(name) for name in ("num_latents", "num_latent_channels")}
    if left:
        raise ValueError(f"settings {sorted(left)} are not those of an image classifier")
    return PerceiverConfig(**halves, **sizes)


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `ImageClassifier`.

    Raises:
        ValueError: the reference has no such model.
    """
    encoder, decoder = config.encoder, _decoder(config)
    result = [
        row("encoder/latents", "0.latent_provider._query"),
        fourier_buffer(encoder, "0.input_adapter.position_encoding.position_encoding"),
    ]
    repeated = ("1", "n")
    for j in sorted({cross for cross, _ in encoder.schedule if cross is not None}):
        result += cross_layer(
            f"encoder/cross_attention/{j}",
            f"0.cross_attn_{repeated[j]}",
            residual=True,
        )
    for j in sorted({block for _, block in encoder.schedule}):
        for i in range(encoder.num_self_attention_layers_per_block):
            result += self_layer(f"encoder/block/{j}/layer/{i}", f"0.self_attn_{repeated[j]}.{i}")
    result += cross_layer(
        "decoder/cross_attention", "1.cross_attn", residual=decoder.cross_attention_residual
    )
    result += [
        row("decoder/output_adapter/queries", "1.output_query_provider._query"),
        *linear("decoder/output_adapter/linear", "1.output_adapter.linear"),
    ]
    return table(result)


def _decoder(config: PerceiverConfig) -> ClassificationDecoderConfig:
    """The decoder of a config that the reference can express."""
    encoder = config.encoder
    decoder = check_half(config.decoder, ClassificationDecoderConfig, "krasserm's ImageClassifier")
    grid = encoder.image_shape[:-1]
    settings = {
        "encoder.preprocessing": (encoder.preprocessing, "pixels"),
        "encoder.position_channel_order": (encoder.position_channel_order, "deepmind"),
        "encoder.max_resolution": (encoder.max_resolution or grid, grid),
        "encoder.cross_attention_residual": (encoder.cross_attention_residual, True),
        "encoder.repeated_layers_shared": (
            encoder.repeated_layers_shared or len(encoder.schedule) <= 2,
            True,
        ),
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        **layer_settings(encoder, decoder, activation="gelu"),
    }
    check_settings("krasserm's ImageClassifier", settings)
    return decoder


def cross_layer(ours: str, theirs: str, *, residual: bool) -> list[Row]:
    """A `CrossAttentionLayer`."""
    attended = f"{theirs}.0.module" if residual else f"{theirs}.0"
    return [
        *norm(f"{ours}/q_norm", f"{attended}.q_norm"),
        *norm(f"{ours}/kv_norm", f"{attended}.kv_norm"),
        *attention(f"{ours}/attention", f"{attended}.attention"),
        *mlp(ours, f"{theirs}.1.module"),
    ]


def self_layer(ours: str, theirs: str) -> list[Row]:
    """A `SelfAttentionLayer`."""
    return [
        *norm(f"{ours}/norm", f"{theirs}.0.module.norm"),
        *attention(f"{ours}/attention", f"{theirs}.0.module.attention"),
        *mlp(ours, f"{theirs}.1.module"),
    ]


def attention(ours: str, theirs: str) -> list[Row]:
    """A `MultiHeadAttention`."""
    return [
        *linear(f"{ours}/query", f"{theirs}.q_proj"),
        *linear(f"{ours}/key", f"{theirs}.k_proj"),
        *linear(f"{ours}/value", f"{theirs}.v_proj"),
        *linear(f"{ours}/output", f"{theirs}.o_proj"),
    ]


def mlp(ours: str, theirs: str) -> list[Row]:
    """An `MLP`, whose first member is its norm."""
    return [
        *norm(f"{ours}/mlp_norm", f"{theirs}.0"),
        *linear(f"{ours}/mlp/hidden", f"{theirs}.1"),
        *linear(f"{ours}/mlp/output", f"{theirs}.3"),
    ]


def linear(ours: str, theirs: str) -> list[Row]:
    """A `torch.nn.Linear`."""
    return [
        row(f"{ours}/kernel", f"{theirs}.weight", TRANSPOSE),
        row(f"{ours}/bias", f"{theirs}.bias"),
    ]


def norm(ours: str, theirs: str) -> list[Row]:
    """A `torch.nn.LayerNorm`."""
    return [row(f"{ours}/scale", f"{theirs}.weight"), row(f"{ours}/bias", f"{theirs}.bias")]


def fourier_buffer(encoder: ImageEncoderConfig, theirs: str) -> Row:
    """The table of position features, which the state dict holds."""

    def features(ours: Arrays) -> np.ndarray:
        grid = encoder.image_shape[:-1]
        axes = np.meshgrid(*[linear_positions(size) for size in grid], indexing="ij")
        positions = np.stack([axis.ravel() for axis in axes], axis=-1)
        table = fourier_features(
            positions, num_bands=encoder.num_frequency_bands, max_resolution=grid
        )
        return table.astype(ours["encoder/latents"].dtype)

    return ignore(
        theirs, "Fourier features of the image grid", features, tolerance=BUFFER_TOLERANCE
    )
