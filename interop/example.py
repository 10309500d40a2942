"""A seeded batch for any model: what conversions and checks are measured on.

- Texts are random ids, the second half of the last one padding.
- Of causal models the first half of the tokens is the prefix, where there is room for one, and the
  first half of that is padding in the last example.
- Resamplers get features, of which those of the last example's second half are padding.
- Clips are asked at some points of frames and sound; their label is given where it is not hidden.
"""

import math
from typing import Any

import numpy as np

from perceiver_jax.adapters.optical_flow import NUM_COLOURS, NUM_FRAMES
from perceiver_jax.models import (
    AnyModelConfig,
    ArrayEncoderConfig,
    CausalSequenceConfig,
    ImageEncoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
    QueryDecoderConfig,
    ResamplerConfig,
    TextEncoderConfig,
    VideoEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

GRID_SIDE = 7
NUM_FEATURES = 6
NUM_QUERIES = 5
NUM_POINTS = 32
MAX_TOKENS = 64


def example_inputs(config: AnyModelConfig, *, seed: int, batch_size: int = 2) -> dict[str, Any]:
    """Arguments of the model's call: standard normal noise in float32, or token ids.

    Args:
        config: of the model.
        seed: of the noise.
        batch_size: examples B.

    Returns:
        `inputs` as the input adapter takes them, `queries` where the decoder is given them, and
        `input_mask` of texts and of features; of a causal model also the number `num_latents`, and
        `positions` where counting does not tell them; of clips `inputs` and `query_indices` by
        modality.
    """
    rng = np.random.default_rng(seed)
    if isinstance(config, CausalSequenceConfig):
        return _sequences(config, rng, batch_size)
    if isinstance(config, ResamplerConfig):
        return _features(config, rng, batch_size)
    return _of_halves(config, rng, batch_size)


def _sequences(
    config: CausalSequenceConfig, rng: np.random.Generator, batch_size: int
) -> dict[str, Any]:
    num_tokens = min(config.max_seq_len, MAX_TOKENS)
    num_prefix = min(num_tokens // 2, config.max_seq_len - config.max_latents)
    num_prefix = max(num_prefix, num_tokens - config.max_latents)
    mask = np.ones((batch_size, num_tokens), bool)
    mask[-1, : num_prefix // 2] = False
    example = {
        "inputs": rng.integers(config.vocab_size, size=mask.shape, dtype=np.int32),
        "input_mask": mask,
        "num_latents": num_tokens - num_prefix,
    }
    sizes = config.position_shape or ()
    if len(sizes) > 1:
        example["positions"] = rng.integers(sizes, size=(*mask.shape, len(sizes)), dtype=np.int32)
    return example


def _features(
    config: ResamplerConfig, rng: np.random.Generator, batch_size: int
) -> dict[str, np.ndarray]:
    frames = () if config.max_frames is None else (config.max_frames,)
    mask = np.ones((batch_size, *frames, NUM_FEATURES), bool)
    mask[-1, ..., NUM_FEATURES // 2 :] = False
    channels = config.num_input_channels or config.num_latent_channels
    features = rng.standard_normal((*mask.shape, channels)).astype(np.float32)
    return {"inputs": features, "input_mask": mask}


def _of_halves(
    config: PerceiverConfig, rng: np.random.Generator, batch_size: int
) -> dict[str, Any]:
    if isinstance(config.encoder, TextEncoderConfig):
        return _texts(config.encoder, rng, batch_size)
    if isinstance(config.encoder, VideoEncoderConfig):
        return _clips(config.encoder, rng, batch_size)
    shape = _input_shape(config.encoder)
    example = {"inputs": rng.standard_normal((batch_size, *shape)).astype(np.float32)}
    if isinstance(config.decoder, QueryDecoderConfig):
        queries = rng.standard_normal((NUM_QUERIES, config.decoder.num_output_query_channels))
        example["queries"] = queries.astype(np.float32)
    return example


def _texts(
    encoder: TextEncoderConfig, rng: np.random.Generator, batch_size: int
) -> dict[str, np.ndarray]:
    shape = (batch_size, min(encoder.max_seq_len, MAX_TOKENS))
    mask = np.ones(shape, bool)
    mask[-1, -(shape[1] // 2) :] = shape[1] < 2
    ids = rng.integers(encoder.vocab_size, size=shape, dtype=np.int32)
    return {"inputs": ids, "input_mask": mask}


def _clips(
    encoder: VideoEncoderConfig, rng: np.random.Generator, batch_size: int
) -> dict[str, Any]:
    hidden = encoder.label_mask_rate == 1.0
    label = rng.integers(encoder.num_classes, size=batch_size, dtype=np.int32)
    clip = {
        "image": rng.standard_normal((batch_size, *encoder.video_shape)).astype(np.float32),
        "audio": rng.standard_normal((batch_size, encoder.num_samples, 1)).astype(np.float32),
        "label": None if hidden else label,
    }
    sizes = {
        "image": math.prod(encoder.video_shape[:-1]),
        "audio": encoder.num_samples // encoder.samples_per_patch,
    }
    points = {
        name: rng.choice(size, min(size, NUM_POINTS), replace=False)[None].astype(np.int32)
        for name, size in sizes.items()
    }
    return {"inputs": clip, "query_indices": points}


def _input_shape(encoder: Any) -> tuple[int, ...]:
    if isinstance(encoder, ImageEncoderConfig):
        return encoder.image_shape
    if isinstance(encoder, OpticalFlowEncoderConfig):
        return (NUM_FRAMES, *encoder.image_shape, NUM_COLOURS)
    arrays = check_half(encoder, ArrayEncoderConfig, "an example")
    return (*[GRID_SIDE] * arrays.num_axes, arrays.num_input_channels)
