"""Mean average precision over any number of batches and devices, from counts by score.

- Scores are counted in `NUM_BINS` bins, equally wide in logits from -`LIMIT` to `LIMIT`; counts add
  up, and examples whose scores share a bin count as ties. A bin is 0.02 wide.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.typing import Array

NUM_BINS = 2_000
LIMIT = 20.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PrecisionCounts:
    """How many examples have, and have not, a class, by their score for it.

    Attributes:
        positives: [NUM_BINS, classes] examples of the class.
        negatives: [NUM_BINS, classes] the others.
    """

    positives: Array
    negatives: Array

    @classmethod
    def of(cls, logits: Array, targets: Array, counted: Array) -> "PrecisionCounts":
        """Counts of a batch.

        Args:
            logits: [B, classes].
            targets: [B, classes] bool.
            counted: [B] bool, examples that count.
        """
        unit = (jnp.clip(logits, -LIMIT, LIMIT) + LIMIT) / (2 * LIMIT)
        bins = jnp.minimum((unit * NUM_BINS).astype(jnp.int32), NUM_BINS - 1)
        classes = jnp.arange(logits.shape[1])
        empty = jnp.zeros((NUM_BINS, logits.shape[1]), jnp.float32)
        targets, counted = targets.astype(bool), counted.astype(bool)[:, None]
        # What is not a number has to stay so, instead of falling into some bin.
        spoilt = jnp.where((jnp.isnan(logits) & counted).any(), jnp.nan, 0.0)
        return cls(
            spoilt + empty.at[bins, classes].add((targets & counted).astype(jnp.float32)),
            empty.at[bins, classes].add((~targets & counted).astype(jnp.float32)),
        )

    def value(self) -> float:
        """Mean over the classes that any example has, in [0, 1]; NaN where there is none.

        The average precision of a class is the sum over thresholds of how much recall grows there
        times the precision there, without interpolation.
        """
        positives, negatives = (
            np.cumsum(np.asarray(counts, np.float64)[::-1], axis=0)
            for counts in (self.positives, self.negatives)
        )
        total = positives[-1]
        if np.isnan(total).any():
            return float("nan")
        gained = np.diff(positives, axis=0, prepend=0.0)
        precision = positives / np.maximum(positives + negatives, 1.0)
        found = total > 0
        if not found.any():
            return float("nan")
        return float(((gained * precision).sum(0)[found] / total[found]).mean())
