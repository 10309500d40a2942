"""DeepMind's released models, by the names of their files.

- Whether a checkpoint's model has these settings is not in its file.
"""

import functools
from collections.abc import Callable

from perceiver_jax.models import (
    AnyModelConfig,
    ar_copy,
    imagenet_conv,
    imagenet_fourier,
    imagenet_learned,
    language_perceiver,
    optical_flow_perceiver,
    video_perceiver,
)

PUBLISHED: dict[str, Callable[[], AnyModelConfig]] = {
    "imagenet_fourier_position_encoding": imagenet_fourier,
    "imagenet_learned_position_encoding": imagenet_learned,
    "imagenet_conv_preprocessing": imagenet_conv,
    "language_perceiver_io_bytes": language_perceiver,
    "optical_flow_checkpoint": optical_flow_perceiver,
    "video_autoencoding_checkpoint": video_perceiver,
    "perceiver_ar_random_mirrored_131072": functools.partial(ar_copy, 131_072),
}
