"""What the baselines of music count."""

import lzma

import numpy as np
import pytest

from benchmarks.music_baselines import pair_bits, pieces_of, predicted_pairs, xz_size


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Prepared events do not go into the cache of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_pairs_are_counted_with_one_added_and_not_across_pieces():
    train = [np.array([1, 2, 1, 2]), np.array([1, 3])]
    bits, number = pair_bits(train, [(np.array([1, 2]), np.array([2, 1]))])
    # After 1 came 2 twice and 3 once, after 2 came 1 once: the second piece began anew.
    wanted = -np.log2([(2 + 1) / (3 + 388), (1 + 1) / (1 + 388)])
    assert bits == pytest.approx(wanted.mean()) and number == 2


def test_with_all_events_latents_the_pairs_are_those_of_the_pieces():
    pieces = pieces_of("synthetic", "test")
    wanted = [(a, b) for piece in pieces for a, b in zip(piece[:-1], piece[1:], strict=True)]
    found = [
        (a, b)
        for before, after in predicted_pairs("synthetic", 64, 64)
        for a, b in zip(before, after, strict=True)
    ]
    assert found == wanted
    fewer = sum(len(after) for _, after in predicted_pairs("synthetic", 64, 16))
    assert 0.2 * len(wanted) < fewer < 0.5 * len(wanted)


def test_the_size_is_no_more_than_that_of_an_xz_file():
    data = np.random.default_rng(0).integers(0, 60, 4000).astype("<i2").tobytes()
    assert 4000 * np.log2(60) / 8 < xz_size(data) < len(lzma.compress(data, preset=9))
