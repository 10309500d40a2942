"""Arguments of Fourier features in DeepMind's `ImagePreprocessor`."""

from typing import Any

from interop.formats.deepmind.encoders import refuse
from interop.formats.settings import check_settings
from perceiver_jax.errors import UserError
from perceiver_jax.models import ImageEncoderConfig, OpticalFlowEncoderConfig


def fourier_fields(left: dict[str, Any]) -> dict[str, Any]:
    """Fields of our encoder from arguments of `ImagePreprocessor`, which are taken out.

    Raises:
        UserError: an argument that is unknown, or has a value that cannot be expressed.
    """
    features = dict(left.pop("fourier_position_encoding_kwargs"))
    if not features.get("num_bands"):
        raise UserError(
            "num_bands=0 gives bare coordinates, which this library does not know; its "
            "num_frequency_bands=0 leaves positions out"
        )
    resolution = features.pop("max_resolution", None)
    fields = {
        "num_frequency_bands": features.pop("num_bands"),
        "max_resolution": None if resolution is None else tuple(map(float, resolution)),
    }
    expected = {
        "concat_pos": (features.pop("concat_pos", True), True),
        "sine_only": (features.pop("sine_only", False), False),
        "project_pos_dim": (left.pop("project_pos_dim", -1), -1),
    }
    check_settings("an encoder of perceiver_jax.models", expected)
    refuse("fourier_position_encoding_kwargs", features)
    return fields


def fourier_arguments(encoder: ImageEncoderConfig | OpticalFlowEncoderConfig) -> dict[str, Any]:
    """`fourier_position_encoding_kwargs`; the inverse of `fourier_fields`."""
    resolution = encoder.max_resolution
    return {
        "num_bands": encoder.num_frequency_bands,
        "max_resolution": None if resolution is None else list(resolution),
    }
