"""The kinds of DeepMind's models, see `interop.formats.families`."""

from interop.formats.deepmind import imagenet, language_model, perceiver_ar

WHOSE = "DeepMind's code"
FAMILIES = (imagenet, language_model, perceiver_ar)
