"""What counting and compression reach on held-out text: `python -m benchmarks.text_baselines`.

- Bits per byte of the held-out split of a dataset, to compare a causal model of bytes with.
- Pairs of bytes are counted on the training split, with one added to each count.
- Compressors see the held-out text alone; in the last row the end of the training split as well, as
  much as fits into their window, whose own size is taken off.
"""

import argparse
import lzma
import zlib

import numpy as np

from perceiver_jax.data import TextDataConfig
from perceiver_jax.data.text.batches import open_rows

LZMA_PRESET = 9 | lzma.PRESET_EXTREME


def text_of(dataset: str, split: str) -> bytes:
    """All of a split as one text."""
    rows = open_rows(TextDataConfig(dataset=dataset, max_seq_len=256), split)
    parts = [rows.row(i)[0] for i in range(len(rows))]
    # The first six ids are special tokens; a separator counts as a byte of its own.
    return bytes(int(token) - 6 if token >= 6 else 0 for part in parts for token in part)


def bigram_bits(train: bytes, test: bytes) -> float:
    """Bits per byte of a model that knows the byte before."""
    counts = np.ones((256, 256))
    pairs = np.frombuffer(train, np.uint8)
    np.add.at(counts, (pairs[:-1], pairs[1:]), 1)
    probabilities = counts / counts.sum(1, keepdims=True)
    held_out = np.frombuffer(test, np.uint8)
    return float(-np.log2(probabilities[held_out[:-1], held_out[1:]]).mean())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="python_docs")
    dataset = parser.parse_args().dataset
    train, test = text_of(dataset, "train"), text_of(dataset, "test")
    print(f"{dataset}: {len(train):,} bytes to learn from, {len(test):,} held out; bits per byte")
    with_training = len(lzma.compress(train + test, preset=LZMA_PRESET)) - len(
        lzma.compress(train, preset=LZMA_PRESET)
    )
    for name, bits in (
        ("pairs of bytes", bigram_bits(train, test)),
        ("gzip -9", 8 * len(zlib.compress(test, 9)) / len(test)),
        ("xz -9e", 8 * len(lzma.compress(test, preset=LZMA_PRESET)) / len(test)),
        ("xz -9e after the training split", 8 * with_training / len(test)),
    ):
        print(f"{bits:6.3f}  {name}")


if __name__ == "__main__":
    main()
