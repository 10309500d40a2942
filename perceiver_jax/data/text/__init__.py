"""Text on the host: documents, tokenizers, and batches for language models and classifiers."""

from perceiver_jax.data.text.batches import (
    class_names,
    classification_batches,
    masked_batches,
    open_rows,
    open_tokenizer,
)
from perceiver_jax.data.text.causal import causal_batches
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.tokenizers import ByteTokenizer, Tokenizer, load_tokenizer

__all__ = [
    "ByteTokenizer",
    "TextDataConfig",
    "Tokenizer",
    "causal_batches",
    "class_names",
    "classification_batches",
    "load_tokenizer",
    "masked_batches",
    "open_rows",
    "open_tokenizer",
]
