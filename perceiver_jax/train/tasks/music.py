"""What tasks on music have in common: a model that reads events, and how its music is shown."""

import importlib.util

import numpy as np

from perceiver_jax.card import MusicPreprocessing
from perceiver_jax.data.music import MusicDataConfig, Note, decode, piano_roll
from perceiver_jax.data.music.midi import as_pretty_midi
from perceiver_jax.data.music.performance import MAX_SHIFT, TICKS_PER_SECOND, TIME_SHIFT
from perceiver_jax.train.tasks.base import Media

SHOWN_SECONDS = 60.0
"""Of a piece: what is further on is neither shown nor heard."""
COLUMNS_PER_SECOND, SAMPLE_RATE = 20.0, 16_000
_BOUNDARY = np.array([255, 160, 0], np.uint8)


def music_preprocessing(data: MusicDataConfig) -> MusicPreprocessing:
    """How notes become ids, for the model's card."""
    return MusicPreprocessing(every_velocity=data.every_velocity)


def shown_continuation(prompt: np.ndarray, made: np.ndarray) -> Media:
    """A piece that a model went on with: a picture of its keys, its sound, and a line.

    Args:
        prompt: [n] ids of events, from the beginning of a piece.
        made: [m] ids, those of the model.

    Returns:
        The first `SHOWN_SECONDS` of it: the keys over time with a line where the model begins, and
        a sound, where there are notes and the package pretty_midi is installed.
    """
    begins = _seconds(prompt)
    notes = [
        note._replace(end=min(note.end, SHOWN_SECONDS))
        for note in decode(np.concatenate([prompt, made]))
        if note.start < SHOWN_SECONDS
    ]
    picture = piano_roll(notes, COLUMNS_PER_SECOND)
    column = picture[:, min(int(begins * COLUMNS_PER_SECOND), picture.shape[1] - 1)]
    # Between the notes that sound there.
    column[~column.any(-1)] = _BOUNDARY
    num_new, seconds = len(decode(made)), _seconds(made)
    return Media(
        images={"continuation": picture},
        sounds={"continuation": (_sound(notes), SAMPLE_RATE)} if _is_heard(notes) else {},
        lines=(f"  {begins:.1f} s of music | {seconds:.1f} s more, {num_new} notes",),
    )


def _seconds(events: np.ndarray) -> float:
    """How much time passes."""
    shifts = events.astype(np.int64) - TIME_SHIFT + 1
    return float(shifts[(shifts >= 1) & (shifts <= MAX_SHIFT)].sum() / TICKS_PER_SECOND)


def _is_heard(notes: list[Note]) -> bool:
    return bool(notes) and importlib.util.find_spec("pretty_midi") is not None


def _sound(notes: list[Note]) -> np.ndarray:
    """[n] samples in [-1, 1], of fading sines."""
    return as_pretty_midi(notes).synthesize(fs=SAMPLE_RATE, normalize=True)
