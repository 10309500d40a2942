"""What tasks on text have in common: a model that reads the tokenizer's ids."""

from collections.abc import Mapping

from perceiver_jax.card import TextPreprocessing
from perceiver_jax.data.text import TextDataConfig, open_tokenizer
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig, TextEncoderConfig


def check_text(encoder: TextEncoderConfig | CausalSequenceConfig, data: TextDataConfig) -> None:
    """Raises a UserError where a model does not read what the data has."""
    tokenizer = open_tokenizer(data)
    causal = isinstance(encoder, CausalSequenceConfig)
    fields = "--config.model" if causal else "--config.model.encoder"
    if encoder.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"tokenizer '{tokenizer.name}' has {tokenizer.vocab_size:,} ids, the model "
            f"{encoder.vocab_size:,}; set {fields}.vocab_size (and that of a text decoder) to "
            f"{tokenizer.vocab_size}"
        )
    if data.max_seq_len > encoder.max_seq_len:
        raise UserError(
            f"rows have data.max_seq_len={data.max_seq_len} tokens, the model takes "
            f"{encoder.max_seq_len}; lower the one or raise {fields}.max_seq_len"
        )


def text_preprocessing(data: TextDataConfig) -> TextPreprocessing:
    """How texts become ids, for the model's card."""
    names = list(tokenizer_files(data))
    return TextPreprocessing(
        tokenizer=names[0] if names else "bytes", add_special_tokens=data.add_special_tokens
    )


def tokenizer_files(data: TextDataConfig) -> Mapping[str, bytes]:
    """The files of the tokenizer, by name, the one to open first; none for bytes."""
    return open_tokenizer(data).files
