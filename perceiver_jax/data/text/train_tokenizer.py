"""`python -m perceiver_jax.data.text.train_tokenizer`: a small tokenizer of one's own texts.

- Byte-pair encoding of UTF-8 bytes, which can write any text. A space is part of the next word.
- Only the training split is read. The same texts give the same file.
- The special tokens are [PAD], [UNK], [MASK], [CLS] and [SEP], with the ids 0 to 4.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from perceiver_jax.command import run_command
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.documents import open_documents
from perceiver_jax.data.text.tokenizers import MASK_TEXT, TokenizerError
from perceiver_jax.errors import how_to_install
from perceiver_jax.whole_files import write_whole

SPECIAL_TOKENS = ("[PAD]", "[UNK]", MASK_TEXT, "[CLS]", "[SEP]")


def train(texts: Iterable[str], *, vocab_size: int, lowercase: bool) -> Any:
    """A tokenizer of the package tokenizers.

    Args:
        texts: what it is trained on.
        vocab_size: tokens, with the special ones; fewer where the texts do not have as many.
        lowercase: whether case is thrown away.

    Raises:
        TokenizerError: the vocabulary is too small, or the package is not installed.
    """
    least = len(SPECIAL_TOKENS) + 256
    if vocab_size < least:
        raise TokenizerError(
            f"vocab_size={vocab_size} is too small: {least} is the least, 256 bytes and "
            f"{len(SPECIAL_TOKENS)} special tokens"
        )
    try:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    except ImportError:
        raise TokenizerError(
            "training needs the package tokenizers, which is not installed; "
            f"{how_to_install('text')}"
        ) from None
    tokenizer: Any = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_special_tokens(),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _special_tokens() -> list[Any]:
    from tokenizers import AddedToken

    # A mask hides a word with the space before it, which must not be in the text a second time.
    return [
        AddedToken(text, special=True, normalized=False, lstrip=text == MASK_TEXT)
        for text in SPECIAL_TOKENS
    ]


def write(tokenizer: Any, out: Path) -> None:
    """Writes a `tokenizer.json`.

    Raises:
        TokenizerError: it cannot be written.
    """
    try:
        write_whole(out, tokenizer.to_str(pretty=True).encode())
    except OSError as error:
        raise TokenizerError(f"{out} cannot be written: {error}; choose another --out") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains a tokenizer and writes it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perceiver_jax.data.text.train_tokenizer",
        description="Trains a tokenizer on the training split of a text dataset.",
    )
    add = parser.add_argument
    add("--dataset", required=True, help="as --config.data.dataset, movie_snippets for example")
    add("--out", type=Path, required=True, help="file to write, tokenizer.json for example")
    add("--vocab_size", type=int, default=4096, help="tokens (default: 4096)")
    add("--lowercase", action="store_true", help="throw case away")
    add("--split", default="train", help="split to train on (default: train)")
    add("--data_dir", help="where prepared datasets lie")
    add("--text_field", default="text", help="field that holds the text (default: text)")
    add("--document_per_line", action="store_true", help="a document per line of a .txt file")
    options = parser.parse_args(arguments)

    def work() -> None:
        config = TextDataConfig(
            dataset=options.dataset,
            data_dir=options.data_dir,
            text_field=options.text_field,
            document_per_line=options.document_per_line,
        )
        documents = open_documents(config, options.split)
        tokenizer = train(
            (document.text for document in documents),
            vocab_size=options.vocab_size,
            lowercase=options.lowercase,
        )
        write(tokenizer, options.out)
        print(f"{options.out}: {tokenizer.get_vocab_size():,} tokens")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
