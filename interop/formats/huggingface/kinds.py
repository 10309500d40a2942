"""The kinds of Hugging Face's models, see `interop.formats.families`."""

from interop.formats.huggingface import (
    image_classifier,
    masked_language_model,
    sequence_classifier,
)

WHOSE = "Hugging Face's code"
FAMILIES = (image_classifier, masked_language_model, sequence_classifier)
