"""What counting and compression reach on held-out music: `python -m benchmarks.music_baselines`.

- Bits per event of the held-out split of a dataset, to compare a causal model of music with.
- Pairs of events are counted on the training split, with one added to each count; no pair is of
  two pieces. In the second row only those events count that a model predicts, with --max_latents
  of rows of --max_seq_len.
- Compressors see the held-out events alone, 16 bits each, piece after piece; in the last row the
  training split as well, whose own size is taken off. Their best preset for such numbers is taken.
"""

import argparse
import lzma
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from perceiver_jax.data import MusicDataConfig, Shard
from perceiver_jax.data.music import PAD_ID, causal_batches, open_events

PRESET = 9 | lzma.PRESET_EXTREME
FILTERS = [
    {"id": lzma.FILTER_LZMA2, "preset": PRESET, "lc": lc, "lp": lp, "pb": pb, "dict_size": 1 << 26}
    for lc, lp, pb in ((3, 0, 2), (3, 1, 1), (0, 1, 1), (0, 0, 2))
]
"""xz's own choice for text, and those for numbers of two bytes."""


def pieces_of(dataset: str, split: str) -> list[np.ndarray]:
    """Events of each piece of a split."""
    events = open_events(MusicDataConfig(dataset=dataset), split)
    return [events[i] for i in range(len(events))]


def predicted_pairs(
    dataset: str, max_seq_len: int, max_latents: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each held-out event that a model predicts, [n], and the one before it."""
    config = MusicDataConfig(dataset=dataset, max_seq_len=max_seq_len)
    batches = causal_batches(config, training=False, seed=0, shard=Shard())
    for i in range(len(batches)):
        batch = batches[i]
        counted = (batch["predicted"] & batch["mask"][:, None])[:, -max_latents:]
        yield (
            batch["ids"][:, -max_latents:][counted],
            batch["targets"][:, -max_latents:][counted],
        )


def pair_bits(
    train: Iterable[np.ndarray], test: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, int]:
    """Bits per event of a model that knows the event before, and of how many events."""
    # Padding is no event, so that there is nothing to add for it.
    counts = np.ones((PAD_ID, PAD_ID))
    for piece in train:
        np.add.at(counts, (piece[:-1], piece[1:]), 1)
    bits = -np.log2(counts / counts.sum(1, keepdims=True))
    costs = np.concatenate([bits[before, after] for before, after in test])
    return float(costs.mean()), len(costs)


def xz_size(data: bytes) -> int:
    """Bytes of the best of `FILTERS`, without the head and the end of a file."""
    return min(len(lzma.compress(data, lzma.FORMAT_RAW, filters=[one])) for one in FILTERS)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="chorales")
    parser.add_argument("--max_seq_len", type=int, default=256, help="of configs/bach.py: 256")
    parser.add_argument("--max_latents", type=int, default=192, help="of configs/bach.py: 192")
    options = parser.parse_args()
    train, test = (pieces_of(options.dataset, split) for split in ("train", "test"))
    learned, held_out = (np.concatenate(pieces).astype("<i2") for pieces in (train, test))
    print(
        f"{options.dataset}: {len(learned):,} events to learn from, {len(held_out):,} held out; "
        "bits per event"
    )
    everywhere, _ = pair_bits(train, ((piece[:-1], piece[1:]) for piece in test))
    rows = predicted_pairs(options.dataset, options.max_seq_len, options.max_latents)
    in_latents, num_predicted = pair_bits(train, rows)
    after_training = xz_size(np.concatenate([learned, held_out]).tobytes()) - xz_size(
        learned.tobytes()
    )
    content = held_out.tobytes()
    for name, bits in (
        ("pairs of events", everywhere),
        (f"pairs of events, of the {num_predicted:,} that the model predicts", in_latents),
        ("gzip -9", 8 * len(zlib.compress(content, 9)) / len(held_out)),
        ("xz", 8 * xz_size(content) / len(held_out)),
        ("xz after the training split", 8 * after_training / len(held_out)),
    ):
        print(f"{bits:6.3f}  {name}")


if __name__ == "__main__":
    main()
