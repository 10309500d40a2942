"""Text configs: combinations that cannot be are refused with the field's name."""

import pytest

from perceiver_jax import config
from perceiver_jax.data import TextDataConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"eval_batch_size": 0}, "eval_batch_size=0"),
        ({"max_seq_len": 0}, "max_seq_len=0 is too small; it must be 1 or more"),
        ({"max_seq_len": 2, "add_special_tokens": True}, "must be 3 or more with add_special_tok"),
        ({"mask_fraction": 0.0}, r"mask_fraction=0.0 is not in \(0, 1\]"),
        ({"mask_fraction": 1.5}, "mask_fraction=1.5"),
        ({"layout": "packed", "separator": "none"}, "'packed' needs separator='sep' or 'eos'"),
        ({"layout": "packed", "random_shift": True}, "random_shift needs layout='chunks'"),
        ({"random_min_seq_len": 0}, "random_min_seq_len=0 is not from 1 to max_seq_len=512"),
        ({"random_min_seq_len": 513}, "random_min_seq_len=513"),
        ({"random_min_seq_len": 2, "add_special_tokens": True}, "from 3 to"),
        ({"layout": "packed", "stream": True}, "stream needs layout='chunks', not 'packed'"),
        ({"stream": True, "random_shift": True}, "random_shift is for prepared rows"),
        ({"shuffle_window": 0}, "shuffle_window=0 must be 1 or more"),
        ({"masking": "static", "random_shift": True}, "masking='static' needs rows that stay"),
        ({"masking": "static", "random_min_seq_len": 5}, "masking='static' needs rows that stay"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TextDataConfig(dataset="synthetic", **fields)


def test_the_least_row_is_a_token_with_what_stands_around_it():
    assert TextDataConfig(dataset="synthetic", max_seq_len=1).num_wrapping_tokens == 0
    wrapped = TextDataConfig(dataset="synthetic", max_seq_len=3, add_special_tokens=True)
    assert wrapped.num_wrapping_tokens == 2


def test_a_config_goes_through_a_dict_and_back():
    ours = TextDataConfig(dataset="files:a", random_min_seq_len=7, layout="chunks")
    assert config.from_dict(TextDataConfig, config.to_dict(ours)) == ours
    assert config.from_dict(TextDataConfig, config.to_config_dict(ours)) == ours
    with pytest.raises(config.ConfigError, match="'chunks' or 'packed' or 'documents'"):
        config.from_dict(TextDataConfig, {"dataset": "synthetic", "layout": "lines"})
