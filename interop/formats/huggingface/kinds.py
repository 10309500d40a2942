"""The kinds of Hugging Face's models, see `interop.formats.families`."""

from interop.formats.huggingface import (
    image_classifier,
    masked_language_model,
    optical_flow,
    resampler,
    sequence_classifier,
    video_autoencoder,
)

WHOSE = "Hugging Face's code"
FAMILIES = (
    image_classifier,
    masked_language_model,
    sequence_classifier,
    optical_flow,
    video_autoencoder,
    resampler,
)
