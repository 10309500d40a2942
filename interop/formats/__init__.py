"""One module per foreign format; see `interop` for what each of them offers."""

from interop.formats import deepmind, huggingface, krasserm, lucidrains, ours

FORMATS = {
    "ours": ours,
    "deepmind": deepmind,
    "huggingface": huggingface,
    "krasserm": krasserm,
    "lucidrains": lucidrains,
}
"""Format modules by the name that users give them."""
