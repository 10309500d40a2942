"""Labelled sounds on the host: files, folders, AudioSet, recorded notes, and mel spectrograms."""

from perceiver_jax.data.audio.config import AudioDataConfig
from perceiver_jax.data.audio.mel import MelConfig, mel_spectrogram

__all__ = ["AudioDataConfig", "MelConfig", "mel_spectrogram"]
