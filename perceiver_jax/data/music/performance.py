"""Music as events of a performance: notes, and the ids that a language model reads and writes.

- 389 ids: a note begins 0-127 or ends 128-255, time passes 256-355 (10 ms to 1 s), notes from here
  on have a velocity 356-387 (divided by 4), and 388 fills up rows.
- The vocabulary is that of the models published by krasserm, and of midi-neural-processor.
- Time is in ticks of 10 ms from the beginning of the piece, so that roundings do not add up.
- At one time notes end before others begin, each by pitch: a piece has one sequence of ids.
"""

import bisect
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from perceiver_jax.errors import UserError

NUM_PITCHES = 128
NOTE_ON, NOTE_OFF, TIME_SHIFT, VELOCITY = 0, 128, 256, 356
"""The first id of each kind of event."""
PAD_ID = 388
"""Fills up pieces that are shorter than a row; no event."""
VOCAB_SIZE = 389
"""Ids that there are, that of padding among them."""
TICKS_PER_SECOND = 100
MAX_SHIFT = VELOCITY - TIME_SHIFT
"""Ticks that one event can pass."""
VELOCITY_STEP = 4
UNKNOWN_VELOCITY = 64
"""Of notes before the first event that tells one: a cut may begin anywhere in a piece."""
_PEDAL_DOWN = 64


class MusicError(UserError):
    """Music that cannot be read or written, with what is wrong and the remedy."""


class Note(NamedTuple):
    """A key that is held.

    Attributes:
        pitch: MIDI number, 0-127; 60 is the middle C.
        velocity: how hard it was struck, 1-127.
        start: seconds from the beginning of the piece.
        end: seconds, likewise.
    """

    pitch: int
    velocity: int
    start: float
    end: float


def quantised(notes: Iterable[Note]) -> list[Note]:
    """The notes as events can tell them: exactly what `decode` makes of `encode`.

    Times are whole ticks, and a note lasts at least one. Velocities are multiples of 4, or 1. A
    pitch sounds once at a time: a note ends where the next of its pitch begins, and of those that
    begin together the longest and the hardest is left.

    Returns:
        Notes by start, then pitch.

    Raises:
        MusicError: a pitch, a velocity or a time is out of range.
    """
    kept: list[list[int]] = []
    last: dict[int, list[int]] = {}
    for start, pitch, end, velocity in sorted(map(_in_ticks, notes)):
        before = last.get(pitch)
        if before is not None and before[0] == start:
            before[2], before[3] = max(before[2], end), max(before[3], velocity)
            continue
        if before is not None:
            before[2] = min(before[2], start)
        last[pitch] = [start, pitch, end, velocity]
        kept.append(last[pitch])
    return [
        Note(pitch, _velocity(velocity // VELOCITY_STEP), _seconds(start), _seconds(end))
        for start, pitch, end, velocity in kept
    ]


def encode(notes: Iterable[Note], *, every_velocity: bool = False) -> np.ndarray:
    """Notes as ids.

    Args:
        notes: in any order.
        every_velocity: whether each note has an event of velocity, as those that the published
            models were trained on have; else it is left out where it is that of the note before.

    Returns:
        [n] int16.

    Raises:
        MusicError: a note is out of range, see `quantised`.

    Source: midi-neural-processor `encode_midi`.
    Differs: there each interval is rounded by itself, so that a piece drifts; notes of one pitch
        overlap; events at one time are in the order of their notes. Its test for a velocity that
        stays the same compares a raw one with a divided one, and nearly never holds.
    """
    events = []
    for pitch, velocity, start, end in quantised(notes):
        events.append((_ticks(end), False, pitch, 0))
        events.append((_ticks(start), True, pitch, velocity // VELOCITY_STEP))
    events.sort()
    ids: list[int] = []
    now, current = 0, -1
    for tick, begins, pitch, velocity in events:
        whole, rest = divmod(tick - now, MAX_SHIFT)
        ids += [TIME_SHIFT + MAX_SHIFT - 1] * whole
        if rest:
            ids.append(TIME_SHIFT + rest - 1)
        now = tick
        if begins and (every_velocity or velocity != current):
            ids.append(VELOCITY + velocity)
            current = velocity
        ids.append((NOTE_ON if begins else NOTE_OFF) + pitch)
    return np.array(ids, np.int16)


def decode(ids: Sequence[int] | np.ndarray) -> list[Note]:
    """The notes that ids tell; any sequence of ids, as models make them, tells some.

    A note that begins while its pitch sounds ends the one before. What is never ended ends with the
    sequence. Ends of what does not sound, notes of no length and padding tell nothing.

    Args:
        ids: [n] integers.

    Returns:
        Notes by start, then pitch.

    Raises:
        MusicError: a number is not an id.
    """
    tick, velocity = 0, UNKNOWN_VELOCITY
    sounding: dict[int, tuple[int, int]] = {}
    notes: list[Note] = []

    def end(pitch: int) -> None:
        start, struck = sounding.pop(pitch, (tick, 0))
        if start < tick:
            notes.append(Note(pitch, struck, _seconds(start), _seconds(tick)))

    for event in np.asarray(ids).tolist():
        if not NOTE_ON <= event < VOCAB_SIZE:
            raise MusicError(
                f"{event} is no event of music; expected ids from 0 to {VOCAB_SIZE - 1}, which a "
                "model with that vocabulary makes"
            )
        if event < NOTE_OFF:
            end(event)
            sounding[event] = tick, velocity
        elif event < TIME_SHIFT:
            end(event - NOTE_OFF)
        elif event < VELOCITY:
            tick += event - TIME_SHIFT + 1
        elif event < PAD_ID:
            velocity = _velocity(event - VELOCITY)
    for pitch in list(sounding):
        end(pitch)
    return sorted(notes, key=lambda note: (note.start, note.pitch))


def sustained(notes: Sequence[Note], pedal: Iterable[tuple[float, int]]) -> list[Note]:
    """Notes as long as they sound with a sustain pedal (MIDI control 64).

    A key that is let go while the pedal is down sounds until the pedal goes up, or until it is
    struck again. A pedal that never goes up does so with the last key.

    Args:
        notes: of one instrument.
        pedal: (seconds, position 0-127) by time; 64 and more is down.

    Returns:
        Notes by start.

    Source: midi-neural-processor `_note_preprocess`.
    Differs: there only keys struck while the pedal is down sound on, and keys that are struck
        after the last time it is down may be lost.
    """
    last = max((note.end for note in notes), default=0.0)
    downs, ups = _pedal_spans(pedal, last)
    struck: dict[int, float] = {}
    longer = []
    for note in sorted(notes, key=lambda note: note.start, reverse=True):
        span = bisect.bisect_right(downs, note.end) - 1
        up = ups[span] if span >= 0 else note.end
        end = max(note.end, min(up, struck.get(note.pitch, math.inf)))
        longer.append(note._replace(end=end))
        struck[note.pitch] = note.start
    return longer[::-1]


def _pedal_spans(
    pedal: Iterable[tuple[float, int]], last: float
) -> tuple[list[float], list[float]]:
    """When the pedal goes down, and when up again."""
    downs: list[float] = []
    ups: list[float] = []
    for seconds, position in pedal:
        down = len(downs) > len(ups)
        if position >= _PEDAL_DOWN and not down:
            downs.append(seconds)
        elif position < _PEDAL_DOWN and down:
            ups.append(seconds)
    return downs, ups + [last] * (len(downs) - len(ups))


def _in_ticks(note: Note) -> tuple[int, int, int, int]:
    """(start, pitch, end, velocity), checked."""
    pitch, velocity, start, end = note
    # Also false where a time is not a number.
    if not (0 <= pitch < NUM_PITCHES and 0 < velocity < 128 and 0.0 <= start <= end < math.inf):
        raise MusicError(
            f"{note} is no note; expected a pitch from 0 to 127, a velocity from 1 to 127, and an "
            "end in seconds after the start, which is 0 or more"
        )
    first = _ticks(start)
    return first, int(pitch), max(_ticks(end), first + 1), int(velocity)


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS_PER_SECOND)


def _seconds(ticks: int) -> float:
    return ticks / TICKS_PER_SECOND


def _velocity(step: int) -> int:
    # Never 0, with which a MIDI file ends a note.
    return max(1, step * VELOCITY_STEP)
