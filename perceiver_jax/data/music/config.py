"""What a music dataset is and what is done to it, as one config."""

import dataclasses

from perceiver_jax.config import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class MusicDataConfig:
    """Music: where from, and how pieces become rows of events, padded on the left."""

    dataset: str = setting(
        doc="'chorales' of Bach, 'synthetic', 'maestro:PATH' for the folder of MAESTRO v3, "
        "'giantmidi:PATH' for that of GiantMIDI-Piano, or 'files:PATH' for a folder of .mid files"
    )
    data_dir: str | None = setting(
        None, "where prepared datasets lie, as 'chorales'; None: the default place"
    )
    cache_dir: str | None = setting(
        None, "where events of pieces are kept; None: perceiver_jax/prepared in the user's cache"
    )
    train_split: str = setting("train", "split to train on")
    eval_split: str = setting(
        "test", "held-out split; 'maestro:' and 'giantmidi:' also have a 'validation'"
    )
    batch_size: int = setting(16, "training rows per step, over all devices")
    eval_batch_size: int = setting(16, "held-out rows per step, over all devices")
    max_seq_len: int = setting(1024, "events of a row")
    min_seq_len: int | None = setting(
        None, "training cuts rows at a random length from this to max_seq_len; None: never"
    )
    transpose: int = setting(
        0, "training moves rows by a random number of semitones, up or down by this at most"
    )
    stretch: float = setting(
        0.0, "training multiplies times by a random factor from 1 - this to 1 + this, in [0, 0.5]"
    )
    every_velocity: bool = setting(
        False,
        "whether each note has an event of velocity, as models published by krasserm expect, or "
        "only one that differs from that of the note before",
    )

    def __post_init__(self):
        if min(self.batch_size, self.eval_batch_size) < 1:
            raise ValueError(
                f"batch_size={self.batch_size} and eval_batch_size={self.eval_batch_size} must be "
                "1 or more"
            )
        if self.max_seq_len < 1:
            raise ValueError(f"max_seq_len={self.max_seq_len} is too small; it must be 1 or more")
        if self.min_seq_len is not None and not 1 <= self.min_seq_len <= self.max_seq_len:
            raise ValueError(
                f"min_seq_len={self.min_seq_len} is not from 1 to max_seq_len={self.max_seq_len}"
            )
        if not 0 <= self.transpose <= 127:
            raise ValueError(
                f"transpose={self.transpose} is not a number of semitones from 0 to 127"
            )
        if not 0.0 <= self.stretch <= 0.5:
            raise ValueError(f"stretch={self.stretch} is not in [0, 0.5]")
