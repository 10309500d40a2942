"""What a music config refuses."""

import pytest

from perceiver_jax.config import from_dict, to_config_dict
from perceiver_jax.data.music import MusicDataConfig


def test_it_survives_a_config_dict():
    config = MusicDataConfig(dataset="files:music", min_seq_len=8, transpose=3, stretch=0.05)
    assert from_dict(MusicDataConfig, to_config_dict(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 0}, "must be 1 or more"),
        ({"eval_batch_size": 0}, "must be 1 or more"),
        ({"max_seq_len": 0}, "max_seq_len=0 is too small"),
        ({"min_seq_len": 0}, "min_seq_len=0 is not from 1 to max_seq_len=1024"),
        ({"min_seq_len": 1025}, "min_seq_len=1025 is not from 1"),
        ({"transpose": -1}, "transpose=-1 is not a number of semitones"),
        ({"stretch": 0.6}, r"stretch=0.6 is not in \[0, 0.5\]"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MusicDataConfig(dataset="synthetic", **fields)
