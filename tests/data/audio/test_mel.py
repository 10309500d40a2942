import numpy as np
import pytest
import scipy.signal

from perceiver_jax.data.audio.mel import (
    MelConfig,
    hertz_to_mel,
    masked,
    mel_filters,
    mel_spectrogram,
    mel_to_hertz,
    power_spectrogram,
)
from tests.data.audio.conftest import RATE, tone

CONFIG = MelConfig(
    num_mel_bands=12, hop_length=64, window_length=256, min_frequency=100.0, log_offset=None
)


def noise(size=1024, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def test_power_is_that_of_a_fourier_transform_written_out():
    x = noise()
    got = power_spectrogram(x, CONFIG)
    n = np.arange(256)
    window = np.sin(np.pi * n / 256) ** 2
    waves = np.exp(-2j * np.pi * np.outer(np.arange(129), n) / 256)
    assert got.shape == (16, 129)
    for frame in (0, 1, 7, 15):
        # Centred at (t + 1/2) hops, silent outside.
        places = frame * 64 + 32 - 128 + n
        inside = (places >= 0) & (places < len(x))
        values = np.where(inside, x[np.clip(places, 0, len(x) - 1)], 0.0)
        want = np.abs(waves @ (values * window)) ** 2 / window.sum() ** 2
        np.testing.assert_allclose(got[frame], want, rtol=1e-4, atol=1e-8)


def test_power_is_that_of_scipy():
    x = noise()
    window = scipy.signal.get_window("hann", 256)
    transform = scipy.signal.ShortTimeFFT(window, 64, RATE)
    # Frames of scipy are centred at multiples of the hop.
    moved = np.pad(x, (96, 0))[: len(x) + 96]
    want = np.abs(transform.stft(moved, p0=2, p1=17)) ** 2 / window.sum() ** 2
    got = power_spectrogram(x, CONFIG)
    np.testing.assert_allclose(got[:15], want.T, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("window_length", [64, 256, 511])
def test_there_is_a_frame_for_every_hop(window_length):
    config = MelConfig(hop_length=64, window_length=window_length)
    assert power_spectrogram(noise(640), config).shape == (10, 1 + window_length // 2)


@pytest.mark.parametrize("window_length", [256, 512, 1024])
def test_the_power_of_a_tone_is_a_quarter_of_its_square_whatever_the_window(window_length):
    config = MelConfig(hop_length=64, window_length=window_length)
    power = power_spectrogram(tone(1000.0, 0.4, loudness=0.6), config)[50]
    assert power.argmax() * RATE / window_length == 1000.0
    assert power.max() == pytest.approx(0.6**2 / 4, rel=1e-4)


def test_mel_are_those_of_htk():
    np.testing.assert_allclose(
        hertz_to_mel(np.array([0.0, 700.0, 1000.0])), [0.0, 781.1728, 999.986], atol=1e-3
    )
    hertz = np.array([20.0, 440.0, 8000.0])
    np.testing.assert_allclose(mel_to_hertz(hertz_to_mel(hertz)), hertz)


def test_filters_are_triangles_between_the_centres_of_their_neighbours():
    filters = mel_filters(CONFIG, RATE)
    frequencies = np.arange(129) * RATE / 256
    ends = mel_to_hertz(np.linspace(*hertz_to_mel(np.array([100.0, 8000.0])).tolist(), 14))
    assert filters.shape == (12, 129)
    for i, (low, centre, high) in enumerate(zip(ends, ends[1:], ends[2:], strict=False)):
        want = np.interp(frequencies, [low, centre, high], [0.0, 1.0, 0.0], left=0, right=0)
        np.testing.assert_allclose(filters[i], want, atol=1e-6)
    # Between the first and the last centre, whatever falls into a band is not in another.
    inner = (frequencies > ends[1]) & (frequencies < ends[-2])
    np.testing.assert_allclose(filters[:, inner].sum(0), 1.0, atol=1e-6)


def test_a_tone_is_loudest_in_the_band_about_it():
    centres = mel_to_hertz(np.linspace(*hertz_to_mel(np.array([100.0, 8000.0])).tolist(), 14))[1:-1]
    for band in (2, 7, 10):
        mel = mel_spectrogram(tone(centres[band], 0.2), CONFIG, RATE)
        assert mel.shape == (50, 12) and mel.dtype == np.float32
        assert (mel[5:-5].argmax(axis=1) == band).all()


def test_a_spectrogram_is_filtered_power_and_its_logarithm():
    x = noise()
    power = power_spectrogram(x, CONFIG).astype(np.float64) @ mel_filters(CONFIG, RATE).T
    np.testing.assert_allclose(mel_spectrogram(x, CONFIG, RATE), power, rtol=1e-4)
    logs = MelConfig(
        num_mel_bands=12, hop_length=64, window_length=256, min_frequency=100.0, log_offset=1e-3
    )
    np.testing.assert_allclose(mel_spectrogram(x, logs, RATE), np.log(power + 1e-3), rtol=1e-4)


def test_silence_is_finite():
    silent = mel_spectrogram(np.zeros(640), MelConfig(hop_length=64), RATE)
    np.testing.assert_allclose(silent, np.log(1e-6), rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hop_length": 0}, "hop_length=0 must be 1 or more"),
        ({"window_length": 512}, "window_length=512 is below hop_length=1024"),
        ({"log_offset": 0.0}, "log_offset=0.0 must be above 0"),
        ({"min_frequency": -1.0}, "min_frequency=-1.0 must be 0 or more"),
        ({"num_time_masks": -1}, "num_time_masks=-1 is too small"),
        ({"max_time_mask": 0}, "max_time_mask=0 must be 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MelConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hop_length": 1000}, "hop_length=1000 does not divide num_samples=16,384"),
        ({"max_frequency": 9000.0}, "9000.0 are not inside 0 to 8000.0"),
        ({"min_frequency": 8000.0}, "from min_frequency=8000.0"),
        ({"num_mel_bands": 1000}, "1000.*narrower .* window_length=2048"),
    ],
)
def test_spectrograms_that_a_waveform_does_not_give_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MelConfig(**fields).check(16_384, RATE)


def test_masks_hide_whole_frames_and_whole_bands():
    config = MelConfig(num_time_masks=1, max_time_mask=5, num_frequency_masks=1)
    x = noise(40 * 30).reshape(40, 30)
    seen = set()
    for seed in range(40):
        hidden = masked(x, config, np.random.default_rng(seed)) != x
        frames, bands = hidden.all(axis=1), hidden.all(axis=0)
        np.testing.assert_array_equal(hidden, frames[:, None] | bands[None])
        assert (np.diff(np.flatnonzero(frames)) == 1).all()
        assert frames.sum() <= 5 and bands.sum() <= 16
        seen.add((int(frames.sum()), int(bands.sum())))
    assert {frames for frames, _ in seen} == set(range(6)) and len(seen) > 20


def test_what_is_hidden_is_the_mean_and_the_original_is_left_alone():
    x = noise(200).reshape(20, 10)
    before = x.copy()
    hidden = masked(x, MelConfig(num_time_masks=3), np.random.default_rng(1))
    np.testing.assert_array_equal(x, before)
    assert np.unique(hidden[hidden != x]) == pytest.approx([x.mean()])
    np.testing.assert_array_equal(masked(x, MelConfig(), np.random.default_rng(1)), x)


def test_masks_longer_than_a_spectrogram_fit_into_it():
    config = MelConfig(num_time_masks=1, max_time_mask=100)
    for seed in range(10):
        assert masked(noise(50).reshape(5, 10), config, np.random.default_rng(seed)).shape == (
            5,
            10,
        )
