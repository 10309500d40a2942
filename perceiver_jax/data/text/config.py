"""What a text dataset is and what is done to it, as one config."""

import dataclasses
from typing import Literal

from perceiver_jax.config import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDataConfig:
    """Texts: where from, how they become rows of tokens, and how rows become batches."""

    dataset: str = setting(
        doc="'python_docs', 'movie_snippets', 'synthetic', 'tfds:NAME' for a prepared TFDS "
        "dataset, 'files:PATH' for a file, a folder or a pattern of .txt, .jsonl or .parquet, or "
        "'enwik8:PATH' for that file"
    )
    data_dir: str | None = setting(None, "where prepared datasets lie; None: the default place")
    cache_dir: str | None = setting(
        None, "where rows of tokens are kept; None: perceiver_jax/prepared in the user's cache"
    )
    train_split: str = setting("train", "split to train on")
    eval_split: str = setting("test", "held-out split")
    batch_size: int = setting(64, "training rows per step, over all devices")
    eval_batch_size: int = setting(128, "held-out rows per step, over all devices")
    tokenizer: str = setting(
        "bytes",
        "'bytes' for UTF-8 bytes, a tokenizer.json or a folder that holds one, a SentencePiece "
        ".model file, or the id of a tokenizer of Hugging Face's hub",
    )
    max_seq_len: int = setting(512, "tokens of a row, special tokens included")
    layout: Literal["chunks", "packed", "documents"] = setting(
        "chunks",
        "'chunks': all documents joined, and cut every max_seq_len tokens; 'packed': whole "
        "documents, several to a row; 'documents': one to a row, of which the beginning is kept",
    )
    separator: Literal["none", "sep", "eos"] = setting(
        "sep", "token that ends a document inside a row of 'chunks' or 'packed'"
    )
    add_special_tokens: bool = setting(False, "whether rows begin with [CLS] and end with [SEP]")
    stream: bool = setting(
        False,
        "whether training of causal models reads 'chunks' as it goes, for texts too large to "
        "prepare; the held-out split is prepared all the same",
    )
    shuffle_window: int = setting(
        10_000, "rows of a stream that are read ahead, on each process, and shuffled; 1: none are"
    )
    text_field: str = setting("text", "field that holds the text, of 'tfds:' and 'files:'")
    label_field: str = setting("label", "field that holds the class, of 'tfds:' and 'files:'")
    document_per_line: bool = setting(
        False, "whether each line of a .txt file is a document, and not the file"
    )
    encoding_errors: Literal["strict", "replace"] = setting(
        "strict", "bytes that are not UTF-8: an error that says where, or replaced by U+FFFD"
    )
    soft_labels: bool = setting(
        False,
        "whether a classifier is trained on probabilities of the classes and not on labels, where "
        "the dataset knows them: 'movie_snippets' does, by its ratings. Scores are by labels",
    )
    mask_fraction: float = setting(0.15, "fraction of tokens, or words, to predict, in (0, 1]")
    masking: Literal["dynamic", "static"] = setting(
        "dynamic", "whether training chooses them anew in each epoch, or once for each row"
    )
    whole_words: bool = setting(False, "whether words are chosen as a whole, and not single tokens")
    random_shift: bool = setting(
        False, "whether training begins a row of 'chunks' anywhere in it and goes on in the next"
    )
    random_min_seq_len: int | None = setting(
        None, "training cuts rows at a random length from this to max_seq_len; None: never"
    )

    def __post_init__(self):
        if min(self.batch_size, self.eval_batch_size) < 1:
            raise ValueError(
                f"batch_size={self.batch_size} and eval_batch_size={self.eval_batch_size} must be "
                "1 or more"
            )
        least = self.num_wrapping_tokens + 1
        if self.max_seq_len < least:
            raise ValueError(
                f"max_seq_len={self.max_seq_len} is too small; it must be {least} or more"
                + (" with add_special_tokens" if self.add_special_tokens else "")
            )
        if not 0.0 < self.mask_fraction <= 1.0:
            raise ValueError(f"mask_fraction={self.mask_fraction} is not in (0, 1]")
        if self.layout == "packed" and self.separator == "none":
            raise ValueError("layout='packed' needs separator='sep' or 'eos' between documents")
        if self.random_shift and self.layout != "chunks":
            raise ValueError(f"random_shift needs layout='chunks', not '{self.layout}'")
        self._check_stream()
        if self.random_min_seq_len is not None and not (
            least <= self.random_min_seq_len <= self.max_seq_len
        ):
            raise ValueError(
                f"random_min_seq_len={self.random_min_seq_len} is not from {least} to "
                f"max_seq_len={self.max_seq_len}"
            )
        if self.masking == "static" and (self.random_shift or self.random_min_seq_len is not None):
            raise ValueError(
                "masking='static' needs rows that stay the same: set random_shift=False and "
                "random_min_seq_len=None, or masking='dynamic'"
            )

    def _check_stream(self) -> None:
        if self.shuffle_window < 1:
            raise ValueError(f"shuffle_window={self.shuffle_window} must be 1 or more")
        if self.stream and self.layout != "chunks":
            raise ValueError(f"stream needs layout='chunks', not '{self.layout}'")
        if self.stream and self.random_shift:
            raise ValueError(
                "random_shift is for prepared rows: those of a stream begin elsewhere in each "
                "epoch; set random_shift=False or stream=False"
            )

    @property
    def num_wrapping_tokens(self) -> int:
        """Tokens of a row that are not of its text: [CLS] and [SEP], or none."""
        return 2 if self.add_special_tokens else 0
