"""Music on the host: notes, events, MIDI files, scores, and batches for models of what follows."""

from perceiver_jax.data.music.batches import causal_batches, open_events
from perceiver_jax.data.music.config import MusicDataConfig
from perceiver_jax.data.music.midi import read_midi, write_midi
from perceiver_jax.data.music.performance import (
    PAD_ID,
    VOCAB_SIZE,
    MusicError,
    Note,
    decode,
    encode,
)
from perceiver_jax.data.music.rendering import piano_roll, render_wav

__all__ = [
    "PAD_ID",
    "VOCAB_SIZE",
    "MusicDataConfig",
    "MusicError",
    "Note",
    "causal_batches",
    "decode",
    "encode",
    "open_events",
    "piano_roll",
    "read_midi",
    "render_wav",
    "write_midi",
]
