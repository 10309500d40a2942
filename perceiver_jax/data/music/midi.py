"""MIDI files from and to notes.

- All instruments are one: notes of all of them, drums left out, and no file says which was which.
- The package pretty_midi is imported where it is used.
"""

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perceiver_jax.data.music.performance import MusicError, Note, quantised, sustained
from perceiver_jax.errors import how_to_install
from perceiver_jax.whole_files import write_whole

MAX_SECONDS = 24 * 3600.0
"""Of a piece: what is longer is damaged."""
_SUSTAIN = 64
_BEATS_PER_MINUTE, _TICKS_PER_BEAT = 120.0, 500
"""A tick of what is written is a millisecond."""


def read_midi(source: str | os.PathLike[str] | bytes, *, what: str | None = None) -> list[Note]:
    """The notes of a MIDI file, as long as they sound with the sustain pedal.

    Args:
        source: a path, or what is in the file.
        what: name of the file for messages; None: its path.

    Returns:
        Notes by start, then pitch; at least one.

    Raises:
        MusicError: it cannot be read, is no MIDI file, is damaged, or has no notes; or the package
            pretty_midi is not installed.
    """
    pretty_midi = require_pretty_midi()
    name = what or ("the MIDI file" if isinstance(source, bytes) else os.fspath(source))
    contents = source if isinstance(source, bytes) else _contents(Path(source))
    if not contents.startswith(b"MThd"):
        raise MusicError(f"{name} is no MIDI file: it does not begin with MThd; choose a .mid file")
    try:
        with warnings.catch_warnings():
            # That tempi stand where they should not: they are read all the same.
            warnings.simplefilter("ignore", RuntimeWarning)
            music = pretty_midi.PrettyMIDI(io.BytesIO(contents))
        notes = [note for instrument in music.instruments for note in _notes(instrument)]
    except Exception as error:  # whatever the reader stumbles over: it checks little
        raise MusicError(
            f"{name} is damaged: {type(error).__name__}: {error}; write it again with the program "
            "that made it, or leave it out"
        ) from error
    if not notes:
        raise MusicError(f"{name} has no notes, other than of drums; choose another file")
    if max(note.end for note in notes) > MAX_SECONDS:
        raise MusicError(f"{name} is damaged: it lasts longer than a day; leave it out")
    return sorted(notes, key=lambda note: (note.start, note.pitch))


def _notes(instrument: Any) -> list[Note]:
    """Of a pretty_midi instrument; none of drums."""
    if instrument.is_drum:
        return []
    # Of no length, or struck with no force: some programs leave such.
    notes = [
        Note(note.pitch, note.velocity, float(note.start), float(note.end))
        for note in instrument.notes
        if note.velocity > 0 and note.start < note.end
    ]
    changes = [change for change in instrument.control_changes if change.number == _SUSTAIN]
    return sustained(notes, [(float(change.time), change.value) for change in changes])


def write_midi(notes: Sequence[Note], path: str | os.PathLike[str]) -> None:
    """Writes a MIDI file of one piano; a file that is there is replaced.

    Raises:
        MusicError: a note is out of range, or the file cannot be written; or the package
            pretty_midi is not installed.
    """
    contents = io.BytesIO()
    as_pretty_midi(notes).write(contents)
    write_music(path, contents.getvalue())


def write_music(path: str | os.PathLike[str], contents: bytes) -> None:
    """Writes a file whole.

    Raises:
        MusicError: it cannot be written.
    """
    try:
        write_whole(Path(path), contents)
    except OSError as error:
        raise MusicError(
            f"{os.fspath(path)} cannot be written: {error}; choose another file"
        ) from error


def as_pretty_midi(notes: Sequence[Note]) -> Any:
    """A `pretty_midi.PrettyMIDI` of one piano, with times in whole ticks of 10 ms.

    Raises:
        MusicError: a note is out of range, or the package pretty_midi is not installed.
    """
    pretty_midi = require_pretty_midi()
    music = pretty_midi.PrettyMIDI(resolution=_TICKS_PER_BEAT, initial_tempo=_BEATS_PER_MINUTE)
    piano = pretty_midi.Instrument(program=0, name="piano")
    # A file, too, has one note of a pitch at a time.
    piano.notes = [
        pretty_midi.Note(
            velocity=exact.velocity, pitch=exact.pitch, start=exact.start, end=exact.end
        )
        for exact in quantised(notes)
    ]
    music.instruments.append(piano)
    return music


def require_pretty_midi() -> Any:
    """The package.

    Raises:
        MusicError: it is not installed.
    """
    try:
        import pretty_midi
    except ImportError:
        raise MusicError(
            "MIDI files need the package pretty_midi, which is not installed; "
            f"{how_to_install('music')}"
        ) from None
    return pretty_midi


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MusicError(f"{path} cannot be read: {error}; name a .mid file") from error
