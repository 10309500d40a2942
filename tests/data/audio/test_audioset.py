"""AudioSet in its published layout, with a few clips of it."""

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.audio.audioset import AudioSet
from tests.data.audio.conftest import tone, write_wav

LABELS = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
2,/t/dd00003,"Male singing"
"""
HEADER = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
"""
BALANCED = """--4gqARaEJE, 0.000, 10.000, "/m/09x0r,/t/dd00003"
Yabc_def-gh, 30.000, 40.000, "/m/05zppz"
gone_gone_g, 30.000, 40.000, "/m/05zppz"
"""
UNBALANCED = """0123456789_, 5.000, 15.000, "/m/09x0r"
"""
EVAL = """EEEEEEEEEEE, 5.000, 15.000, "/t/dd00003"
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "class_labels_indices.csv").write_text(LABELS)
    for name, rows in (
        ("balanced_train", BALANCED), ("unbalanced_train", UNBALANCED), ("eval", EVAL)
    ):  # fmt: skip
        (tmp_path / f"{name}_segments.csv").write_text(HEADER + rows)
    for name in (
        "balanced/Y--4gqARaEJE.wav",
        "audio/part00/Yabc_def-gh.wav",
        "audio/0123456789__5000_15000.wav",
        "eval/YEEEEEEEEEEE_5.000.wav",
    ):
        write_wav(tmp_path / name, tone(440, 0.1))
    return tmp_path


def found(source):
    return [(source[i]["sound"].path.name, source[i]["label"].tolist()) for i in range(len(source))]


def test_clips_are_found_by_the_ids_of_their_videos(root):
    assert found(AudioSet(root, "balanced_train")) == [
        ("Y--4gqARaEJE.wav", [True, False, True]),
        ("Yabc_def-gh.wav", [False, True, False]),
    ]
    assert found(AudioSet(root, "eval")) == [("YEEEEEEEEEEE_5.000.wav", [False, False, True])]


def test_both_training_lists_together_are_train(root):
    names = [name for name, _ in found(AudioSet(root, "train"))]
    assert names == ["Y--4gqARaEJE.wav", "Yabc_def-gh.wav", "0123456789__5000_15000.wav"]
    assert len(AudioSet(root, "unbalanced_train")) == 1


def test_classes_have_their_published_order_and_names(root):
    want = ("Speech", "Male speech, man speaking", "Male singing")
    assert AudioSet(root, "eval").class_names == want


def test_how_many_clips_are_missing_is_said_once(root, capsys):
    AudioSet(root, "train")
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "1 of the 4 clips of split 'train' are not below" in printed
    AudioSet(root, "eval")
    assert capsys.readouterr().err == ""


def test_without_any_clip_it_is_said_what_they_are_called(root):
    (root / "eval" / "YEEEEEEEEEEE_5.000.wav").rename(root / "eval" / "E.wav")
    with pytest.raises(DatasetError, match=r"none of the 1 clips of split 'eval' .* Y--4gqARaEJE"):
        AudioSet(root, "eval")


def test_splits_are_those_of_audioset(root):
    with pytest.raises(DatasetError, match="no split 'test'; it has balanced_train, "):
        AudioSet(root, "test")


@pytest.mark.parametrize("name", ["class_labels_indices.csv", "eval_segments.csv"])
def test_a_list_that_is_missing_is_named(root, name):
    (root / name).unlink()
    with pytest.raises(DatasetError, match=f"{name} cannot be read .* as published"):
        AudioSet(root, "eval")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("", "does not begin with 'index,mid,display_name'"),
        ("index,mid,display_name\nx,/m/1,A\n", "a line that is not read"),
        ("index,mid,display_name\n1,/m/1,A\n", "does not number its classes from 0 on"),
    ],
)
def test_a_list_of_classes_that_is_something_else_is_refused(root, contents, message):
    (root / "class_labels_indices.csv").write_text(contents)
    with pytest.raises(DatasetError, match=message):
        AudioSet(root, "eval")


@pytest.mark.parametrize("row", ['EEEEEEEEEEE, 0, 10, "/m/unknown"', "EEEEEEEEEEE, 0"])
def test_a_segment_that_is_not_read_is_shown(root, row):
    (root / "eval_segments.csv").write_text(HEADER + row + "\n")
    with pytest.raises(DatasetError, match=r"eval_segments\.csv has the line \['EEEEEEEEEEE'"):
        AudioSet(root, "eval")
