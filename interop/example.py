"""A seeded batch for any model: what conversions and checks are measured on."""

from typing import Any

import numpy as np

from perceiver_jax.models import (
    ArrayEncoderConfig,
    ImageEncoderConfig,
    PerceiverConfig,
    QueryDecoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

GRID_SIDE = 7
NUM_QUERIES = 5


def example_inputs(
    config: PerceiverConfig, *, seed: int, batch_size: int = 2
) -> dict[str, np.ndarray]:
    """Arguments of the model's call: standard normal noise in float32.

    Args:
        config: of the model.
        seed: of the noise.
        batch_size: examples B.

    Returns:
        `inputs` as the input adapter takes them, and `queries` where the decoder is given them.
    """
    rng = np.random.default_rng(seed)
    shape = _input_shape(config.encoder)
    example = {"inputs": rng.standard_normal((batch_size, *shape)).astype(np.float32)}
    if isinstance(config.decoder, QueryDecoderConfig):
        queries = rng.standard_normal((NUM_QUERIES, config.decoder.num_output_query_channels))
        example["queries"] = queries.astype(np.float32)
    return example


def _input_shape(encoder: Any) -> tuple[int, ...]:
    if isinstance(encoder, ImageEncoderConfig):
        return encoder.image_shape
    arrays = check_half(encoder, ArrayEncoderConfig, "an example")
    return (*[GRID_SIDE] * arrays.num_axes, arrays.num_input_channels)
