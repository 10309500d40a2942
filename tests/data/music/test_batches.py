"""Rows of events: cut, moved, padded on the left, the same for the same seed and position."""

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard
from perceiver_jax.data.music import PAD_ID, Note, causal_batches, decode, open_events, write_midi

ALONE = Shard()


def batches(config, count=None, *, training=True, seed=0, shard=ALONE):
    dataset = causal_batches(config, training=training, seed=seed, shard=shard)
    return [dataset[i] for i in range(len(dataset) if count is None else count)]


def rows(found, name):
    return [row for batch in found for row in batch[name]]


def whole(batch, i):
    """Events of a row with its last target, without padding."""
    known = batch["input_mask"][i]
    return np.append(batch["ids"][i][known], batch["targets"][i][-1:])


def assert_well_formed(batch, length):
    for name, dtype in (("ids", np.int32), ("targets", np.int32), ("input_mask", bool)):
        assert batch[name].shape == (4, length) and batch[name].dtype == dtype
    np.testing.assert_array_equal(batch["input_mask"], batch["predicted"])
    known = batch["input_mask"]
    # Padding is on the left, and there alone.
    np.testing.assert_array_equal(known, np.sort(known, axis=1))
    for name in ("ids", "targets"):
        np.testing.assert_array_equal(batch[name] == PAD_ID, ~known)
    shifted = known[:, 1:] & known[:, :-1]
    np.testing.assert_array_equal(batch["ids"][:, 1:][shifted], batch["targets"][:, :-1][shifted])


def is_part(row, piece):
    return any(
        np.array_equal(row, piece[i : i + len(row)]) for i in range(len(piece) - len(row) + 1)
    )


def test_evaluation_predicts_each_event_but_the_first_once(make_config):
    config = make_config(max_seq_len=50)
    found = batches(config, training=False)
    pieces = open_events(config, "test")
    got = [whole(b, i) for b in found for i in range(4) if b["mask"][i]]
    want = [
        pieces[i][start : start + 51]
        for i in range(len(pieces))
        for start in range(0, len(pieces[i]) - 1, 50)
    ]
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(b["predicted"][b["mask"]].sum() for b in found) == (pieces.lengths - 1).sum()
    for batch in found:
        assert_well_formed(batch, 50)


def test_training_cuts_rows_out_of_pieces(make_config):
    config = make_config(max_seq_len=40)
    pieces = [x.tolist() for x in map(open_events(config, "train").__getitem__, range(256))]
    starts = set()
    for batch in batches(config, 6):
        assert_well_formed(batch, 40)
        assert batch["input_mask"].all()
        for i in range(4):
            row = whole(batch, i)
            holding = [x for x in pieces if is_part(row, x)]
            assert holding
            starts.add(next(j for j in range(999) if is_part(row, holding[0][j : j + 41])))
    assert len(starts) > 8 and 0 in starts


def test_pieces_shorter_than_a_row_are_padded(make_config):
    config = make_config(max_seq_len=300)
    batch = batches(config, 1)[0]
    assert_well_formed(batch, 300)
    pieces = open_events(config, "train")
    for i in range(4):
        assert any(np.array_equal(whole(batch, i), pieces[j]) for j in range(len(pieces)))


def test_rows_may_be_of_random_length(make_config):
    found = batches(make_config(max_seq_len=8, min_seq_len=5), 40)
    lengths = [int(row.sum()) for row in rows(found, "input_mask")]
    assert set(lengths) == {5, 6, 7, 8}
    for batch in found:
        assert_well_formed(batch, 8)
    fixed = batches(make_config(max_seq_len=8, min_seq_len=5), 5, training=False)
    assert np.mean([row.all() for row in rows(fixed, "input_mask")]) > 0.8


@pytest.fixture
def one_piece(tmp_path):
    """A folder of one file, of one interval again and again."""
    notes = [Note((60, 64)[i % 2], 64, i * 0.2, i * 0.2 + 0.1) for i in range(100)]
    write_midi(notes, tmp_path / "music" / "train" / "a.mid")
    return f"files:{tmp_path / 'music'}"


def test_training_transposes_within_its_range(make_config, one_piece):
    config = make_config(one_piece, max_seq_len=40, transpose=3)
    lowest = set()
    for row in rows(batches(config, 40), "ids"):
        pitches = row[row < 256] % 128
        assert pitches.max() - pitches.min() == 4
        lowest.add(int(pitches.min()))
    assert lowest == set(range(57, 64))


def test_transposing_stays_on_the_keyboard(make_config, tmp_path):
    write_midi(
        [Note(p, 64, t, t + 1) for t in range(40) for p in (1, 126)],
        tmp_path / "music" / "train" / "a.mid",
    )
    config = make_config(f"files:{tmp_path / 'music'}", max_seq_len=20, transpose=12)
    for row in rows(batches(config, 10), "ids"):
        assert set((row[row < 128]).tolist()) in ({0, 125}, {1, 126}, {2, 127})


def test_training_stretches_within_its_range(make_config, one_piece):
    config = make_config(one_piece, max_seq_len=80, stretch=0.25)
    steps = set()
    for batch in batches(config, 20):
        assert_well_formed(batch, 80)
        for i in range(4):
            starts = [note.start for note in decode(whole(batch, i))]
            steps.add(round(float(np.median(np.diff(starts))), 2))
    assert 0.15 <= min(steps) < 0.18 and 0.22 < max(steps) <= 0.25


def test_stretched_rows_are_full(make_config, tmp_path):
    # Pauses of seconds take fewer events in faster music.
    notes = [Note(60, 64, i * 3.0, i * 3.0 + 0.1) for i in range(500)]
    write_midi(notes, tmp_path / "music" / "train" / "a.mid")
    config = make_config(f"files:{tmp_path / 'music'}", max_seq_len=30, stretch=0.5)
    # All but a few, which end with the piece.
    assert np.mean([row.all() for row in rows(batches(config, 20), "input_mask")]) > 0.9


def test_batches_are_a_function_of_seed_and_position(make_config):
    config = make_config(max_seq_len=24, min_seq_len=4, transpose=5, stretch=0.1)
    first, again = batches(config, 5), batches(config, 5)
    np.testing.assert_equal(first, again)
    other = batches(config, 5, seed=1)
    assert any((a["ids"] != b["ids"]).any() for a, b in zip(first, other, strict=True))


def test_processes_divide_the_rows_among_them(make_config):
    config = make_config(max_seq_len=50)
    whole = rows(batches(config, training=False), "ids")
    parts = [rows(batches(config, training=False, shard=Shard(i, 2)), "ids") for i in range(2)]
    np.testing.assert_array_equal(np.stack(parts, axis=1).reshape(len(whole), 50), whole)


def test_velocities_are_told_as_often_as_asked(make_config):
    few, every = (open_events(make_config(every_velocity=x), "test") for x in (False, True))
    num_notes = 64 * 40
    counts = [
        sum(int(((x[i] >= 356) & (x[i] < 388)).sum()) for i in range(64)) for x in (few, every)
    ]
    assert counts[0] < counts[1] == num_notes


def test_datasets_and_splits_that_are_not_there_are_named(make_config):
    with pytest.raises(DatasetError, match="no music dataset is called 'bach'; there are chorales"):
        batches(make_config("bach"), 1)
    with pytest.raises(DatasetError, match="no split is called 'dev'; there are train, test"):
        batches(make_config(train_split="dev"), 1)
    with pytest.raises(DatasetError, match="'chorales' is not at .*fetch it"):
        batches(make_config("chorales"), 1)
