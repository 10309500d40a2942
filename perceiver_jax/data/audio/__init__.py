"""Labelled sounds on the host: files, folders, AudioSet, recorded notes, and mel spectrograms."""

from perceiver_jax.data.audio.config import AudioDataConfig
from perceiver_jax.data.audio.files import SoundFile
from perceiver_jax.data.audio.mel import MelConfig, mel_spectrogram
from perceiver_jax.data.audio.sounds import Samples

__all__ = ["AudioDataConfig", "MelConfig", "Samples", "SoundFile", "mel_spectrogram"]
