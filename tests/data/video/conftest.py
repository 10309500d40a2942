"""What the tests of video share: small files whose frames tell their number."""

from fractions import Fraction

import av
import numpy as np
import pytest

from perceiver_jax.data.video import write_video

SIZE = (48, 64)


def level(i):
    """The grey of frame number i: from black to white in steps that compression leaves apart."""
    return 8 * i % 256


def numbers(frames):
    """Which frames pictures [T, H, W, 3] show, below 32."""
    return np.round(np.stack(list(frames)).mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def grey(i, size=SIZE):
    """Frame number i."""
    return np.full((*size, 3), level(i), np.uint8)


def tone(hertz, seconds, rate=48_000, loudness=0.5):
    """[S] float32."""
    return np.float32(loudness * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate))


@pytest.fixture
def make_video(tmp_path):
    """A function that writes grey frames below tmp_path: `make_video(name, num_frames, …)`."""

    def make(name="a.mp4", num_frames=20, frame_rate=10, sound=None, sample_rate=48_000):
        frames = (grey(i) for i in range(num_frames))
        return write_video(tmp_path / name, frames, frame_rate, sound, sample_rate)

    return make


@pytest.fixture
def mux(tmp_path):
    """A function that writes grey frames at given times, in any format: `mux(name, stamps, …)`.

    `sound` is a list of (first sample, [channels, n] floats).
    """

    def make(
        name,
        stamps,
        *,
        unit=Fraction(1, 10),
        codec="libx264",
        sound=(),
        sound_codec="pcm_s16le",
        sound_rate=48_000,
        gop=8,
        first=0,
        options=None,
    ):
        path = tmp_path / name
        with av.open(str(path), "w", options=options or {}) as file:
            video = file.add_stream(codec, rate=1 / unit)
            video.height, video.width = SIZE
            video.pix_fmt, video.gop_size = "yuv420p", gop
            if sound:
                layout = {1: "mono", 2: "stereo"}[sound[0][1].shape[0]]
                track = file.add_stream(sound_codec, rate=sound_rate, layout=layout)
            for i, stamp in enumerate(stamps, first):
                frame = av.VideoFrame.from_ndarray(grey(i)).reformat(format="yuv420p")
                frame.pts, frame.time_base = stamp, unit
                file.mux(video.encode(frame))
            file.mux(video.encode(None))
            for start, samples in sound:
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = sound_rate, start
                frame.time_base = Fraction(1, sound_rate)
                resampler = av.AudioResampler(
                    track.format, layout, sound_rate, frame_size=track.frame_size or 1024
                )
                for part in (*resampler.resample(frame), *resampler.resample(None)):
                    file.mux(track.encode(part))
            if sound:
                file.mux(track.encode(None))
        return path

    return make
