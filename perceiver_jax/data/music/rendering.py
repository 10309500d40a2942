"""Music to hear and to see: a sound file, and a picture of the keys over time."""

import io
import os
import wave
from collections.abc import Sequence

import numpy as np

from perceiver_jax.data.music.midi import as_pretty_midi, write_music
from perceiver_jax.data.music.performance import NUM_PITCHES, MusicError, Note, quantised

_MIN_RATE, _MAX_RATE = 8_000, 96_000
_PEAK = 0.9
"""Of the loudest sample, in full scale."""
_KEY, _STRUCK = np.array([64, 160, 255]), np.array([255, 255, 255])
"""Colours of a key that is held, and in the column where it is struck."""


def render_wav(
    notes: Sequence[Note], path: str | os.PathLike[str], sample_rate: int = 44_100
) -> None:
    """Writes a WAV file, mono, 16 bits; a file that is there is replaced.

    A piano of a sound font where the package pyfluidsynth and its library are there, else fading
    sines.

    Args:
        notes: in any order, at least one.
        path: of the file.
        sample_rate: samples per second, from 8,000 to 96,000.

    Raises:
        MusicError: there is no note, one or the rate is out of range, or the file cannot be
            written; or the package pretty_midi is not installed.
    """
    if not notes:
        raise MusicError(f"there is no note to render to {os.fspath(path)}; give at least one")
    if not _MIN_RATE <= sample_rate <= _MAX_RATE:
        raise MusicError(
            f"sample_rate={sample_rate} is not from {_MIN_RATE} to {_MAX_RATE}; choose 44100"
        )
    music = as_pretty_midi(notes)
    try:
        sound = music.fluidsynth(fs=sample_rate, normalize=False)
    except ImportError:
        sound = music.synthesize(fs=sample_rate, normalize=False)
    full_scale = np.iinfo(np.int16).max / max(np.abs(sound).max(), 1e-9)
    samples = np.rint(_PEAK * full_scale * sound).astype("<i2")
    contents = io.BytesIO()
    with wave.open(contents, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    write_music(path, contents.getvalue())


def piano_roll(notes: Sequence[Note], columns_per_second: float = 20.0) -> np.ndarray:
    """The keys over time, high ones above, brighter where they are struck harder.

    Args:
        notes: in any order.
        columns_per_second: width of the picture.

    Returns:
        [128, T, 3] uint8, T 1 or more; row 127 - p is pitch p, and a key is white where it is
        struck.

    Raises:
        MusicError: a note is out of range.
    """
    exact = quantised(notes)
    spans = [[int(time * columns_per_second) for time in (x.start, x.end)] for x in exact]
    picture = np.zeros((NUM_PITCHES, 1 + max((end for _, end in spans), default=0), 3), np.uint8)
    for note, (start, end) in zip(exact, spans, strict=True):
        row = picture[NUM_PITCHES - 1 - note.pitch]
        brightness = 0.4 + 0.6 * note.velocity / 127
        row[start:end] = (brightness * _KEY)[None]
        row[start] = _STRUCK
    return picture
