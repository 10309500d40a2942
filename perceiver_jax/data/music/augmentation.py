"""Other performances of the same music: transposed, faster or slower. Functions of ids.

- A cut out of the middle of a piece stays one: ends of notes that began before it are kept.
"""

import numpy as np

from perceiver_jax.data.music.performance import (
    MAX_SHIFT,
    NUM_PITCHES,
    TIME_SHIFT,
    VELOCITY,
)


def transposed(ids: np.ndarray, semitones: int) -> np.ndarray:
    """The same music, higher or lower; see `transposable` for how far that goes.

    Args:
        ids: [n] ids of events.
        semitones: added to each pitch.

    Returns:
        [n] ids, a new array.

    Raises:
        ValueError: a pitch would leave the range of MIDI.
    """
    lowest, highest = transposable(ids)
    if not lowest <= semitones <= highest:
        raise ValueError(f"semitones={semitones} is not in [{lowest}, {highest}]")
    return np.where(ids < TIME_SHIFT, ids + np.asarray(semitones, ids.dtype), ids)


def transposable(ids: np.ndarray) -> tuple[int, int]:
    """How many semitones down (0 or less) and up (0 or more) the music can go."""
    pitches = ids[ids < TIME_SHIFT] % NUM_PITCHES
    if not len(pitches):
        return 0, 0
    return -int(pitches.min()), NUM_PITCHES - 1 - int(pitches.max())


def stretched(ids: np.ndarray, factor: float) -> np.ndarray:
    """The same music, slower where the factor is more than 1.

    Times of events are multiplied and rounded, not the intervals between them. Where that leaves a
    note no length it is lost.

    Args:
        ids: [n] ids of events.
        factor: of all times, more than 0.

    Returns:
        [m] ids, a new array; only the number of events that pass time changes.
    """
    passes = (ids >= TIME_SHIFT) & (ids < VELOCITY)
    elapsed = np.cumsum(np.where(passes, ids.astype(np.int64) - TIME_SHIFT + 1, 0))
    others = ids[~passes]
    # The end of the sequence is like an event: time may pass before it.
    ticks = np.rint(np.append(elapsed[~passes], elapsed[-1:]) * factor).astype(np.int64)
    whole, rest = np.divmod(np.diff(ticks, prepend=0), MAX_SHIFT)
    pieces = []
    for i in range(len(ticks)):
        pieces.append(np.full(whole[i], TIME_SHIFT + MAX_SHIFT - 1, ids.dtype))
        if rest[i]:
            pieces.append(np.array([TIME_SHIFT + rest[i] - 1], ids.dtype))
        pieces.append(others[i : i + 1])
    return np.concatenate(pieces, dtype=ids.dtype) if pieces else ids.copy()
