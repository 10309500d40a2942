"""MusicXML scores to notes, with the standard library alone.

- Played as written: repeats once, pitches untransposed, grace notes left out, tied notes as one.
- Nothing outside of the file is read, and files that define entities of their own are refused.
- All parts begin a measure together, at the end of the longest of them.

Source: MusicXML 4.0, score-partwise.
"""

import io
import itertools
import math
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree

from perceiver_jax.data.music.performance import MusicError, Note

QUARTERS_PER_MINUTE = 96.0
"""Where a score has no tempo; the most frequent one of the chorales that have one."""
VELOCITY = 80
"""Of all notes: scores of chorales have no dynamics."""
MAX_BYTES = 16 * 2**20
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class _Written(NamedTuple):
    """A note in quarters from the beginning of its measure."""

    start: float
    length: float
    pitch: int
    goes_on: bool
    """whether a tie leads from it to the next of its pitch"""


class _Measure(NamedTuple):
    notes: list[_Written]
    tempi: list[tuple[float, float]]
    """(quarters from the beginning of the measure, quarters per minute)"""
    length: float


def read_musicxml(contents: bytes, what: str) -> list[Note]:
    """The notes of a score.

    Args:
        contents: of a file, compressed (.mxl) or not.
        what: its name, for messages.

    Returns:
        Notes by start, then pitch, in seconds.

    Raises:
        MusicError: it is no such file, is damaged, or has no notes.
    """
    try:
        root = _parsed(_unpacked(contents) if contents.startswith(b"PK") else contents)
        parts = [list(_measures(part)) for part in root.iter("part")]
    except (
        *(ElementTree.ParseError, zipfile.BadZipFile, zlib.error, NotImplementedError),
        *(EOFError, KeyError, OSError, RuntimeError, ValueError, ArithmeticError),
    ) as error:
        raise MusicError(
            f"{what} is no MusicXML score, or is damaged ({type(error).__name__}: {error}); fetch "
            "it again, or leave it out"
        ) from error
    rows = list(itertools.zip_longest(*parts, fillvalue=_Measure([], [], 0.0)))
    lengths = [max(measure.length for measure in row) for row in rows]
    begins = list(itertools.accumulate(lengths, initial=0.0))
    clock = _Clock(
        (begin + at, tempo)
        for begin, row in zip(begins, rows, strict=False)
        for measure in row
        for at, tempo in measure.tempi
    )
    notes = [
        Note(pitch, VELOCITY, clock.seconds(start), clock.seconds(end))
        for part in parts
        for pitch, start, end in _tied(part, begins)
    ]
    if not notes:
        raise MusicError(f"{what} has no notes; choose another file")
    return sorted(notes, key=lambda note: (note.start, note.pitch))


def _unpacked(archive: bytes) -> bytes:
    """The score in an .mxl file, which its container names."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        container = _parsed(_member(packed, "META-INF/container.xml"))
        names = [e.get("full-path") for e in container.iter() if e.tag.endswith("rootfile")]
        if not names or names[0] is None:
            raise ValueError("its container names no score")
        return _member(packed, names[0])


def _member(packed: zipfile.ZipFile, name: str) -> bytes:
    with packed.open(name) as file:
        contents = file.read(MAX_BYTES + 1)
    if len(contents) > MAX_BYTES:
        raise ValueError(f"{name} is longer than {MAX_BYTES} bytes")
    return contents


def _parsed(contents: bytes) -> ElementTree.Element:
    text = contents.decode("utf-8")
    if "<!ENTITY" in text:
        raise ValueError("it defines entities")
    return ElementTree.fromstring(text)


def _measures(part: ElementTree.Element) -> Iterator[_Measure]:
    divisions = 1.0
    for measure in part.findall("measure"):
        notes: list[_Written] = []
        tempi: list[tuple[float, float]] = []
        now = start = longest = 0.0
        for element in measure:
            if found := element.findtext("divisions"):
                divisions = _number(found)
            tempi += [(now, tempo) for tempo in _tempi(element)]
            length = _number(element.findtext("duration") or "0") / divisions
            if element.tag == "note" and element.find("chord") is None:
                start = now
                now += length
            elif element.tag in ("forward", "backup"):
                now += length if element.tag == "forward" else -length
            if element.tag == "note" and length and (pitch := _pitch(element)) is not None:
                goes_on = any(tie.get("type") == "start" for tie in element.findall("tie"))
                notes.append(_Written(start, length, pitch, goes_on))
            if now < 0.0:
                raise ValueError(f"measure {measure.get('number')} goes back behind its beginning")
            longest = max(longest, now)
        yield _Measure(notes, tempi, longest)


def _tempi(element: ElementTree.Element) -> Iterator[float]:
    for sound in element.iter("sound"):
        tempo = sound.get("tempo")
        if tempo is not None and _number(tempo) > 0.0:
            yield _number(tempo)


def _number(text: str) -> float:
    number = float(text)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"'{text}' is no length or tempo")
    return number


def _pitch(note: ElementTree.Element) -> int | None:
    """The MIDI number; None of rests and of what has no pitch."""
    pitch = note.find("pitch")
    if pitch is None:
        return None
    step, octave = (pitch.findtext(name) or "" for name in ("step", "octave"))
    number = (
        12 * (int(octave) + 1) + _STEPS[step.strip()] + round(float(pitch.findtext("alter") or 0))
    )
    if not 0 <= number <= 127:
        raise ValueError(f"{step}{octave} is not a pitch of MIDI")
    return number


def _tied(part: list[_Measure], begins: list[float]) -> Iterator[tuple[int, float, float]]:
    """(pitch, start, end) in quarters; a note that is tied to the next of its pitch is one with it.

    A tie leads only to a note that begins where the one before ends.
    """
    held: dict[int, tuple[float, float]] = {}
    for begin, measure in zip(begins, part, strict=False):
        for note in sorted(measure.notes):
            start, end = begin + note.start, begin + note.start + note.length
            if note.pitch in held:
                first, last = held.pop(note.pitch)
                if math.isclose(last, start, abs_tol=1e-6):
                    start = first
                else:
                    yield note.pitch, first, last
            if note.goes_on:
                held[note.pitch] = start, end
            else:
                yield note.pitch, start, end
    for pitch, (start, end) in held.items():
        yield pitch, start, end


class _Clock:
    """From quarters to seconds.

    Args:
        tempi: (quarters, quarters per minute) of changes.
    """

    def __init__(self, tempi: Iterator[tuple[float, float]]):
        changes = dict(sorted(tempi))
        # What stands first holds from the beginning.
        first = next(iter(changes.values()), QUARTERS_PER_MINUTE)
        self._changes = [(0.0, first), *(x for x in changes.items() if x[0] > 0.0)]

    def seconds(self, quarters: float) -> float:
        total = 0.0
        ends = [at for at, _ in self._changes[1:]] + [math.inf]
        for (at, tempo), end in zip(self._changes, ends, strict=True):
            if quarters > at:
                total += (min(quarters, end) - at) * 60.0 / tempo
        return total
