"""What crops are cut out of: sounds of any length, in files or in memory."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from perceiver_jax.data.audio.decoding import mixed, resampled
from perceiver_jax.data.sources import DatasetError

SOUND = "a SoundFile(path) or Samples([c, n] samples, rate)"
"""What a sound is, for messages."""


@runtime_checkable
class Sound(Protocol):
    """Something that can be heard."""

    def seconds(self) -> float:
        """How long it is."""
        ...

    def read(
        self, start_s: float, num_samples: int, sample_rate: int, num_channels: int
    ) -> np.ndarray:
        """A part of it.

        Args:
            start_s: where the part begins, in seconds.
            num_samples: samples S of the part.
            sample_rate: samples a second of the part, whatever that of the sound.
            num_channels: channels c: 1, the mean of all there are; or 2, the first two, of a sound
                of one channel that twice.

        Returns:
            [S, c] float32 in [-1, 1]; behind the end it is silent.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """A sound in memory.

    Attributes:
        samples: [c, n] float32 in [-1, 1].
        rate: samples a second.

    Raises:
        DatasetError: samples have another shape or type.
    """

    samples: np.ndarray
    rate: int

    def __post_init__(self):
        shape, kind = np.shape(self.samples), np.asarray(self.samples).dtype
        if len(shape) != 2 or kind.kind != "f":
            raise DatasetError(
                f"samples have shape {shape} and type {kind}; expected [channels, n] floats from "
                "-1 to 1"
            )

    def seconds(self) -> float:
        """See `Sound`."""
        return self.samples.shape[1] / self.rate

    def read(
        self, start_s: float, num_samples: int, sample_rate: int, num_channels: int
    ) -> np.ndarray:
        """See `Sound`."""
        sound = resampled(mixed(self.samples, num_channels), self.rate, sample_rate)
        first = round(start_s * sample_rate)
        part = np.zeros((num_samples, num_channels), np.float32)
        found = sound[:, first : first + num_samples].T
        part[: len(found)] = found
        return np.clip(part, -1.0, 1.0)


def crops(
    sound: Sound,
    places: Sequence[float],
    *,
    num_samples: int,
    sample_rate: int,
    num_channels: int,
) -> list[np.ndarray]:
    """Crops of a sound, [num_samples, num_channels] float32 each.

    Args:
        sound: what they are cut out of; a shorter one is followed by silence.
        places: of each crop, from 0, at the beginning of the sound, to 1, at its end.
        num_samples: samples of a crop.
        sample_rate: samples a second of the crops.
        num_channels: of the crops.

    Raises:
        DatasetError: the sound is none, cannot be read, or has no length.
    """
    if not isinstance(sound, Sound):
        raise DatasetError(f"the sound is a {type(sound).__name__}; expected {SOUND}")
    length = sound.seconds()
    if not length > 0:
        raise DatasetError(f"{sound} is empty; leave it out")
    last = max(0, int(length * sample_rate) - num_samples)
    firsts = [round(place * last) for place in places]
    begin, end = min(firsts), max(firsts) + num_samples
    # Crops that overlap are decoded together.
    if end - begin <= len(firsts) * num_samples:
        whole = sound.read(begin / sample_rate, end - begin, sample_rate, num_channels)
        return [whole[first - begin : first - begin + num_samples] for first in firsts]
    return [
        sound.read(first / sample_rate, num_samples, sample_rate, num_channels) for first in firsts
    ]
