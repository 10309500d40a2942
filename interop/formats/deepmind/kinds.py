"""The kinds of DeepMind's models, see `interop.formats.families`."""

from interop.formats.deepmind import (
    imagenet,
    language_model,
    optical_flow,
    perceiver_ar,
    video_autoencoder,
)

WHOSE = "DeepMind's code"
FAMILIES = (imagenet, language_model, optical_flow, perceiver_ar, video_autoencoder)
