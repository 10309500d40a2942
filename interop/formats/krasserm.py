"""krasserm/perceiver-io 0.11 (PyTorch): the image classifier.

- Names are those of the backend model's state dict; Lightning and Hugging Face files put `model.`
  or `backend_model.` before them.
- `0.` is the encoder and `1.` the decoder; a layer without residual lacks `module.` in its names.
- Second and later cross-attentions always share weights with each other, and so do blocks.
- Exact GELU, and uniform attention where everything is masked: see `config`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interop.files import FileError, safetensors_files, torch_files
from interop.foreign import Foreign
from interop.formats import hub_folder
from interop.formats.settings import (
    check_settings,
    classifier_halves,
    layer_settings,
    settings_beside,
    write_settings_beside,
)
from interop.formats.torch_layers import linear, norm
from interop.rows import Arrays, Row, ignore, row, table
from perceiver_jax.config import ConfigError, from_dict
from perceiver_jax.core.position import fourier_features, linear_positions
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig

BUFFER_TOLERANCE = 1e-4
"""The reference computes its Fourier features in float32: sines of angles up to 350 rad."""


WHOSE = "krasserm's ImageClassifier"
MODEL_TYPE = "perceiver-io-image-classifier"
LIGHTNING_VERSION = "2.0.0"
"""Of the layout of checkpoints; Lightning migrates what is older than itself."""
STATE_DICTS = (".pt", ".pth", ".bin", ".safetensors")
"""Endings of files with a state dict alone."""
WRAPPERS = ("model.", "backend_model.")
"""Prefixes of names in files of Lightning and of Hugging Face's interface."""
NOT_OF_THE_MODEL = ("params", "optimizer_init", "lr_scheduler_init", "_instantiator")
"""Hyper-parameters of Lightning modules that say how a model was trained."""


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
    if encoder.get("num_frequency_bands") == 0:
        raise ConfigError(
            "num_frequency_bands=0 gives bare coordinates there, which this library does not know; "
            "its own num_frequency_bands=0 leaves positions out"
        )
    # The reference's image classifier has one query, whatever this setting says.
    decoder["num_output_queries"] = 1
    halves = {
        "encoder": from_dict(ImageEncoderConfig, encoder, "config.encoder"),
        "decoder": from_dict(ClassificationDecoderConfig, decoder, "config.decoder"),
    }
    sizes = {name: left.pop(name) for name in ("num_latents", "num_latent_channels")}
    if left:
        raise ConfigError(f"settings {sorted(left)} are not those of an image classifier")
    return PerceiverConfig(**halves, **sizes)


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The reference's config, as a nested dict of its dataclasses.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    encoder, decoder = classifier_halves(config, WHOSE)
    return {
        "encoder": {
            "image_shape": list(encoder.image_shape),
            "num_frequency_bands": encoder.num_frequency_bands,
            **_fields(encoder, ENCODER_FIELDS),
        },
        "decoder": _fields(decoder, DECODER_FIELDS),
        "num_latents": config.num_latents,
        "num_latent_channels": config.num_latent_channels,
        "activation_checkpointing": encoder.remat,
    }


LAYER_FIELDS = (
    "num_cross_attention_heads",
    "num_cross_attention_qk_channels",
    "num_cross_attention_v_channels",
    "cross_attention_widening_factor",
    "dropout",
    "init_scale",
)
ENCODER_FIELDS = (
    *LAYER_FIELDS,
    "num_cross_attention_layers",
    "first_cross_attention_layer_shared",
    "num_self_attention_heads",
    "num_self_attention_qk_channels",
    "num_self_attention_v_channels",
    "num_self_attention_layers_per_block",
    "num_self_attention_blocks",
    "first_self_attention_block_shared",
    "self_attention_widening_factor",
)
DECODER_FIELDS = (
    *LAYER_FIELDS,
    "cross_attention_residual",
    "num_classes",
    "num_output_queries",
    "num_output_query_channels",
)


def _fields(half: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Fields that have one name on both sides."""
    values = {name: getattr(half, name) for name in names}
    return values | {"init_scale": 0.02 if half.init_scale is None else half.init_scale}


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        UserError: the model is no image classifier of Perceiver IO.
    """
    encoder, decoder = classifier_halves(config, WHOSE)
    grid = tuple(map(float, encoder.image_shape[:-1]))
    bands = encoder.num_frequency_bands
    return {
        # None there would be bare coordinates.
        "encoder.num_frequency_bands": (bands, max(bands, 1)),
        "encoder.preprocessing": (encoder.preprocessing, "pixels"),
        "encoder.position_channel_order": (encoder.position_channel_order, "deepmind"),
        "encoder.max_resolution": (encoder.max_resolution or grid, grid),
        "encoder.cross_attention_residual": (encoder.cross_attention_residual, True),
        "encoder.inverted_cross_attention": (encoder.inverted_cross_attention, ()),
        "encoder.repeated_layers_shared": (
            encoder.repeated_layers_shared or len(encoder.schedule) <= 2,
            True,
        ),
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.num_output_queries": (decoder.num_output_queries, 1),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        **layer_settings(encoder, decoder, activation="gelu"),
    }


def read(source: Path) -> Foreign:
    """A Lightning checkpoint, a state dict, or a folder of the Hugging Face interface.

    Raises:
        FileError: it is none of them, or damaged.
    """
    if source.is_dir():
        return _read_folder(source)
    if source.suffix == ".safetensors":
        return Foreign(
            arrays=_unwrapped(safetensors_files.read(source)), settings=settings_beside(source)
        )
    file = torch_files.read(source)
    hyperparameters = file.rest.get("hyper_parameters")
    if hyperparameters is not None:
        hyperparameters = {
            name: _plain(value)
            for name, value in hyperparameters.items()
            if name not in NOT_OF_THE_MODEL
        }
    return Foreign(
        arrays=_unwrapped(file.tensors), settings=hyperparameters or settings_beside(source)
    )


def _read_folder(folder: Path) -> Foreign:
    settings = hub_folder.config(folder).get("model_config")
    if not isinstance(settings, Mapping):
        raise FileError(f"{folder / hub_folder.CONFIG} has no model_config; is it krasserm's?")
    *_, num_channels = settings.get("encoder", {}).get("image_shape", (224, 224, 3))
    contents = hub_folder.read(folder, num_channels)
    return Foreign(
        arrays=_unwrapped(contents.arrays),
        settings=settings,
        labels=hub_folder.labels(contents.config),
        preprocessing=contents.preprocessing,
        **hub_folder.provenance(contents.config),
    )


def write(destination: Path, foreign: Foreign) -> None:
    """A Lightning checkpoint (`.ckpt`), a state dict, or a folder for the Hugging Face interface.

    Hyper-parameters of a Lightning checkpoint are plain dicts: to load it with the reference's
    Lightning module, give its `encoder` and `decoder` configs as arguments.
    """
    if destination.suffix == ".ckpt":
        rest = {
            "pytorch-lightning_version": LIGHTNING_VERSION,
            "hyper_parameters": dict(foreign.settings or {}),
        }
        torch_files.write(destination, foreign.arrays, rest, prefix="model.")
    elif destination.suffix in STATE_DICTS:
        if destination.suffix == ".safetensors":
            safetensors_files.write(destination, foreign.arrays)
        else:
            torch_files.write(destination, foreign.arrays)
        write_settings_beside(destination, foreign.settings)
    else:
        _write_folder(destination, foreign)


def _write_folder(folder: Path, foreign: Foreign) -> None:
    arrays = {f"backend_model.{name}": array for name, array in foreign.arrays.items()}
    config = {
        "model_type": MODEL_TYPE,
        "architectures": ["PerceiverImageClassifier"],
        "is_decoder": False,
        "model_config": foreign.settings,
        **hub_folder.label_settings(foreign.labels),
        **hub_folder.provenance(foreign),
    }
    contents = hub_folder.HubFolder(
        config=config, arrays=arrays, preprocessing=foreign.preprocessing
    )
    hub_folder.write(folder, contents, channels_last=True)


def _unwrapped(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without the prefix of a wrapper; what lies outside the wrapped model keeps its own."""
    for prefix in WRAPPERS:
        if any(name.startswith(prefix) for name in arrays):
            return {name.removeprefix(prefix): array for name, array in arrays.items()}
    return dict(arrays)


def _plain(value: Any) -> Any:
    """A record of a pickled config dataclass as the dict of its fields."""
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items() if name != torch_files.CLASS}
    return value


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `ImageClassifier`.

    Raises:
        UserError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = classifier_halves(config, WHOSE)
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
