"""What the tests of sound share: tones, files of them in any format, and a small SoundFont."""

import struct
import wave
from fractions import Fraction

import av
import numpy as np
import pytest

RATE = 16_000


def tone(hertz, seconds, rate=RATE, loudness=0.5):
    """[S] float32."""
    times = np.arange(round(seconds * rate)) / rate
    return (loudness * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def pitch(sound, rate=RATE):
    """The loudest frequency."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return np.argmax(spectrum) * rate / len(sound)


def write_wav(path, channels, rate=RATE):
    """Writes [c, n] floats, or [n], as 16 bits."""
    channels = np.atleast_2d(channels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(32767 * channels.T).astype("<i2").tobytes())
    return path


@pytest.fixture
def encode(tmp_path):
    """A function that writes [c, n] floats: `encode(name, codec, channels, rate)`."""

    def make(name, codec, channels, rate=48_000):
        channels = np.ascontiguousarray(np.atleast_2d(channels), np.float32)
        layout = {1: "mono", 2: "stereo"}[len(channels)]
        path = tmp_path / name
        with av.open(str(path), "w") as file:
            track = file.add_stream(codec, rate=rate, layout=layout)
            frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            resampler = av.AudioResampler(
                track.format, layout, rate, frame_size=track.frame_size or 1024
            )
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                file.mux(track.encode(part))
            file.mux(track.encode(None))
        return path

    return make


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def soundfont(recordings, presets, *, instruments=None):
    """Bytes of a SoundFont 2 file.

    Args:
        recordings: dicts of `samples` [n] int16, `loop`, `rate` and `key`, perhaps `cents`.
        presets: {number: [zone, ...]}, a zone {generator: amount} as those of instruments.
        instruments: [[zone, ...], ...].
    """
    samples, headers = b"", b""
    for x in recordings:
        start = len(samples) // 2
        end = start + len(x["samples"])
        samples += x["samples"].astype("<i2").tobytes()
        first, last = x["loop"]
        headers += struct.pack(
            "<20s5IBbHH", b"recording", start, end, start + first, start + last, x["rate"],
            x["key"], x.get("cents", 0), 0, 1,
        )  # fmt: skip
    headers += struct.pack("<20s5IBbHH", b"EOS", *[0] * 9)

    def level(groups):
        heads, bags, generators, first = [], b"", b"", 0
        for zones in groups:
            heads.append(len(bags) // 4)
            for zone in zones:
                bags += struct.pack("<HH", first, 0)
                generators += b"".join(struct.pack("<Hh", *pair) for pair in zone.items())
                first += len(zone)
        heads.append(len(bags) // 4)
        bags += struct.pack("<HH", first, 0)
        return heads, bags, generators + struct.pack("<HH", 0, 0)

    heads, bags, generators = level(presets.values())
    numbers = [*presets, 255]
    phdr = b"".join(
        struct.pack("<20sHHH12x", b"preset", number, 0, head)
        for number, head in zip(numbers, heads, strict=True)
    )
    tables = chunk(b"phdr", phdr) + chunk(b"pbag", bags) + chunk(b"pgen", generators)
    heads, bags, generators = level(instruments)
    inst = b"".join(struct.pack("<20sH", b"instrument", head) for head in heads)
    tables += chunk(b"inst", inst) + chunk(b"ibag", bags) + chunk(b"igen", generators)
    lists = chunk(b"LIST", b"sdta" + chunk(b"smpl", samples))
    lists += chunk(b"LIST", b"pdta" + tables + chunk(b"shdr", headers))
    return b"RIFF" + struct.pack("<I", len(lists) + 4) + b"sfbk" + lists


def span(low, high):
    """A range as a generator has it."""
    return low | high << 8
