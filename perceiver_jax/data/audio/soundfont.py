"""Notes of a SoundFont 2 file: which recording a key of an instrument plays, and playing it.

- A file is read as data: RIFF chunks of tables and of 16-bit samples. Nothing else of it counts.
- Playing is resampling a recording to the key's pitch, going round its loop, and its volume
  envelope. Filters, vibrato, reverb and what a controller would do are left out, and so is what
  follows the release of a key.
"""

import dataclasses
import functools
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from perceiver_jax.data.sources import DatasetError

_TABLES = {
    b"phdr": [("name", "S20"), ("preset", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("_", "V12")],
    b"pbag": [("gen", "<u2"), ("mod", "<u2")],
    b"pgen": [("op", "<u2"), ("amount", "<i2")],
    b"inst": [("name", "S20"), ("bag", "<u2")],
    b"ibag": [("gen", "<u2"), ("mod", "<u2")],
    b"igen": [("op", "<u2"), ("amount", "<i2")],
    b"shdr": [
        ("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"),
        ("loop_end", "<u4"), ("rate", "<u4"), ("key", "u1"), ("cents", "i1"), ("link", "<u2"),
        ("type", "<u2"),
    ],
}  # fmt: skip
"""Records of the chunks that are read, as SoundFont 2.01 §7 has them."""

START, END, LOOP_START, LOOP_END = 0, 1, 2, 3
FAR_START, FAR_END, FAR_LOOP_START, FAR_LOOP_END = 4, 12, 45, 50
DELAY, ATTACK, HOLD, DECAY, SUSTAIN, KEY_TO_HOLD, KEY_TO_DECAY = 33, 34, 35, 36, 37, 39, 40
INSTRUMENT, KEYS, VELOCITIES, ATTENUATION, TUNE, FINE_TUNE = 41, 43, 44, 48, 51, 52
SAMPLE, MODES, SCALE, ROOT_KEY = 53, 54, 56, 58
"""Numbers of generators, §8.1.2."""
_DEFAULTS = {
    DELAY: -12_000,
    ATTACK: -12_000,
    HOLD: -12_000,
    DECAY: -12_000,
    SCALE: 100,
    ROOT_KEY: -1,
}
_NOT_ADDED = (INSTRUMENT, KEYS, VELOCITIES, SAMPLE, MODES, ROOT_KEY)
_FAR = 32_768
_SILENT_DB = 100.0
_PADDING = 64
"""Samples that are played too many and fade: the filter sees a sound that begins where it ends."""
_FASTEST = 1_000
"""Of samples of a recording to those of what is played; no instrument comes near it."""


@dataclasses.dataclass(frozen=True)
class Zone:
    """A recording, and how an instrument plays it.

    Attributes:
        recording: its number in the file.
        start: first sample of all in the file.
        end: one behind the last.
        loop: first sample of the loop and one behind its last; None: it is played once.
        rate: samples a second.
        root_key: key at which it is played as it was recorded.
        cents_per_key: how much the pitch rises from one key to the next.
        cents: how much all keys are above their pitch.
        keys: the lowest and the highest key.
        velocities: the softest and the hardest stroke.
        gain: factor of the samples, in (0, 1] as a rule.
        envelope: timecents of delay, attack, hold and decay, then tenths of a decibel below full
            that are held, then what a key below 60 adds to hold and decay.
    """

    recording: int
    start: int
    end: int
    loop: tuple[int, int] | None
    rate: int
    root_key: int
    cents_per_key: int
    cents: int
    keys: tuple[int, int]
    velocities: tuple[int, int]
    gain: float
    envelope: tuple[int, int, int, int, int, int, int]


class SoundFont:
    """A SoundFont 2 file.

    Args:
        contents: of the file.

    Raises:
        DatasetError: it is none, or damaged.
    """

    def __init__(self, contents: bytes):
        try:
            chunks = dict(_chunks(contents))
            samples = chunks[b"smpl"]
            self._samples = np.frombuffer(samples[: len(samples) & ~1], "<i2")
            self._tables = {name: _records(chunks[name], name) for name in _TABLES}
            headers = self._tables[b"phdr"][:-1]
            self._presets = {(int(x["bank"]), int(x["preset"])): i for i, x in enumerate(headers)}
        except (KeyError, ValueError, struct.error) as error:
            raise DatasetError(f"this is no whole SoundFont 2 file: {error!r}") from error
        self._preset = functools.lru_cache(maxsize=256)(self._all_zones)

    def zones(self, preset: int, key: int, *, bank: int = 0, velocity: int = 100) -> list[Zone]:
        """The recordings that a key plays together, such as a left and a right one.

        Args:
            preset: from 0, in General MIDI's order.
            key: 0 to 127; 60 is middle C.
            bank: 0; 128 is drums.
            velocity: how hard the key is struck, 1 to 127.

        Raises:
            DatasetError: there is no such preset, or what the file says of it cannot be.
        """
        return [
            zone
            for zone in self._preset(bank, preset)
            if zone.keys[0] <= key <= zone.keys[1]
            and zone.velocities[0] <= velocity <= zone.velocities[1]
        ]

    def _all_zones(self, bank: int, preset: int) -> tuple[Zone, ...]:
        if (bank, preset) not in self._presets:
            raise DatasetError(f"the SoundFont has no preset {preset} in bank {bank}")
        try:
            return tuple(
                self._zone(of_preset, of_instrument)
                for of_preset in self._generators("p", self._presets[bank, preset], INSTRUMENT)
                for of_instrument in self._generators("i", of_preset[INSTRUMENT], SAMPLE)
            )
        except (IndexError, KeyError) as error:
            raise DatasetError(f"preset {preset} of the SoundFont is damaged: {error}") from error

    def _generators(self, level: str, index: int, last: int) -> Iterator[dict[int, int]]:
        """Generators of each zone that ends in `last`; a zone without it is of all behind it."""
        headers, bags, generators = (
            self._tables[name.encode()]
            for name in (("phdr", "pbag", "pgen") if level == "p" else ("inst", "ibag", "igen"))
        )
        common: dict[int, int] = {}
        first, end = headers[index]["bag"], headers[index + 1]["bag"]
        for bag in range(first, end):
            rows = generators[bags[bag]["gen"] : bags[bag + 1]["gen"]]
            own = {int(row["op"]): int(row["amount"]) for row in rows}
            if last in own:
                yield common | own
            elif bag == first:
                common = own

    def _zone(self, of_preset: dict[int, int], of_instrument: dict[int, int]) -> Zone:
        amounts = _DEFAULTS | of_instrument
        for op, amount in of_preset.items():
            if op not in _NOT_ADDED:
                amounts[op] = amounts.get(op, 0) + amount

        def get(op: int) -> int:
            return amounts.get(op, 0)

        number = of_instrument[SAMPLE]
        header = self._tables[b"shdr"][number]
        start, end, loop_start, loop_end = (
            int(header[name]) + get(near) + _FAR * get(far)
            for name, near, far in (
                ("start", START, FAR_START),
                ("end", END, FAR_END),
                ("loop_start", LOOP_START, FAR_LOOP_START),
                ("loop_end", LOOP_END, FAR_LOOP_END),
            )
        )
        if not 0 <= start < end <= len(self._samples) or not header["rate"]:
            raise IndexError(f"recording {number} is outside the samples")
        loops = bool(get(MODES) & 1) and start <= loop_start < loop_end <= end
        root = get(ROOT_KEY) if get(ROOT_KEY) >= 0 else int(header["key"])
        return Zone(
            recording=number,
            start=start,
            end=end,
            loop=(loop_start, loop_end) if loops else None,
            rate=int(header["rate"]),
            root_key=root,
            cents_per_key=get(SCALE),
            cents=100 * get(TUNE) + get(FINE_TUNE) + int(header["cents"]),
            keys=_range(of_preset.get(KEYS), of_instrument.get(KEYS)),
            velocities=_range(of_preset.get(VELOCITIES), of_instrument.get(VELOCITIES)),
            gain=10 ** (-get(ATTENUATION) / 200),
            envelope=(
                get(DELAY), get(ATTACK), get(HOLD), get(DECAY), get(SUSTAIN), get(KEY_TO_HOLD),
                get(KEY_TO_DECAY),
            ),
        )  # fmt: skip

    def play(self, zone: Zone, key: int, num_samples: int, sample_rate: int) -> np.ndarray:
        """A key held down, [num_samples] float32; of one recording it is in [-1, 1] or near it.

        Pitch is right to the precision of the file; what is above half the sample rate is cut off.

        Raises:
            DatasetError: the file has the recording played at an absurd speed.
        """
        cents = (key - zone.root_key) * zone.cents_per_key + zone.cents
        rate = zone.rate * 2 ** (cents / 1200)
        if rate > _FASTEST * sample_rate:
            raise DatasetError(f"the SoundFont plays recording {zone.recording} absurdly fast")
        factor = max(1, math.ceil(rate / sample_rate))
        positions = np.arange((num_samples + _PADDING) * factor) * (rate / (factor * sample_rate))
        fine = self._interpolated(zone, positions)
        fine[num_samples * factor :] *= np.linspace(1, 0, _PADDING * factor, dtype=np.float32)
        sound = _every(fine, factor)[:num_samples]
        return sound * zone.gain * _envelope(zone, key, np.arange(num_samples) / sample_rate)

    def _interpolated(self, zone: Zone, positions: np.ndarray) -> np.ndarray:
        """Samples at real positions behind the start, linearly interpolated."""
        positions = positions + zone.start
        if zone.loop is None:
            here = np.floor(positions).astype(np.int64)
            after, end = here + 1, zone.end
        else:
            first, end = zone.loop
            rounds = np.floor(np.maximum(positions - first, 0.0) / (end - first))
            positions = positions - rounds * (end - first)
            here = np.minimum(np.floor(positions).astype(np.int64), end - 1)
            after = np.where(here + 1 == end, first, here + 1)
        part = (positions - here).astype(np.float32)
        left, right = (
            np.where(x < end, self._samples[np.minimum(x, end - 1)], 0).astype(np.float32)
            for x in (here, after)
        )
        return (left + part * (right - left)) / _FAR


def _chunks(contents: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, data) of the chunks in the lists of a RIFF file."""
    kind, size, form = struct.unpack_from("<4sI4s", contents)
    if kind != b"RIFF" or form != b"sfbk" or size + 8 > len(contents):
        raise ValueError("it does not begin as one, or is cut off")
    for name, data in _parts(contents[12 : size + 8]):
        if name == b"LIST":
            yield from _parts(data[4:])


def _parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        yield name, data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _records(data: bytes, name: bytes) -> np.ndarray:
    kind = np.dtype(_TABLES[name])
    if len(data) % kind.itemsize or len(data) < kind.itemsize:
        raise ValueError(f"{name.decode()} has {len(data)} bytes")
    return np.frombuffer(data, kind)


def _range(*amounts: int | None) -> tuple[int, int]:
    """What several ranges, each of two bytes, have in common; None has no bounds."""
    bounds = [(x & 0xFF, (x >> 8) & 0xFF) for x in amounts if x is not None]
    return max((x for x, _ in bounds), default=0), min((x for _, x in bounds), default=127)


def _every(fine: np.ndarray, factor: int) -> np.ndarray:
    """Every so many-th sample, of what is below half of the lower rate."""
    if factor == 1:
        return fine.astype(np.float32)
    size = len(fine) // factor
    spectrum = np.fft.rfft(fine)[: size // 2 + 1]
    return (np.fft.irfft(spectrum, size) / factor).astype(np.float32)


def _envelope(zone: Zone, key: int, times: np.ndarray) -> np.ndarray:
    """[n] float32 factors: a linear rise, and a fall of as many decibels in each second."""
    delay, attack, hold, decay, sustain, key_to_hold, key_to_decay = zone.envelope
    hold += (60 - key) * key_to_hold
    decay += (60 - key) * key_to_decay
    spans: Any = [2 ** (x / 1200) for x in (delay, attack, hold, decay)]
    begin, top, fall = np.cumsum(spans[:3])
    rise = np.clip((times - begin) / spans[1], 0.0, 1.0)
    lost = np.clip(
        (times - fall) / spans[3] * _SILENT_DB, 0.0, np.clip(sustain / 10, 0, _SILENT_DB)
    )
    return (rise * 10 ** (-lost / 20)).astype(np.float32)
