import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.time_series.csv_folders import read_csv_folder


def read(root, split, time_column):
    return read_csv_folder(root, split, time_column, train_split="train")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "train" / "walk" / "b.csv", "time,x,y\n0.0,1,2\n0.7,3,\n")
    write(tmp_path / "train" / "run" / "a.csv", "x,time,y\n5,10,6\n")
    write(tmp_path / "test" / "walk" / "c.csv", "time,x,y\n2024-01-01T00:00:10,1,?\n")
    write(tmp_path / "train" / "walk" / ".hidden.csv", "nothing")
    write(tmp_path / "train" / "walk" / "notes.txt", "nothing")
    return tmp_path


def test_a_file_is_a_series_and_its_folder_the_class(root):
    source = read(root, "train", "time")
    assert source.class_names == ("run", "walk")
    run, walk = source
    assert (run["label"], walk["label"]) == (0, 1)
    np.testing.assert_array_equal(run["values"], [[5, 6]])
    np.testing.assert_array_equal(run["times"], [10])
    np.testing.assert_array_equal(walk["values"], np.array([[1, 2], [3, np.nan]], np.float32))
    np.testing.assert_array_equal(walk["times"], [0.0, 0.7])


def test_labels_are_the_same_in_all_splits_and_times_may_be_dates(root):
    (one,) = read(root, "test", "time")
    assert one["label"] == 1
    assert one["times"].tolist() == [1704067210.0]
    assert np.isnan(one["values"][0, 1])


def test_without_a_column_of_times_rows_are_counted(tmp_path):
    write(tmp_path / "train" / "a" / "a.csv", "x,y\n1,2\n3,4\n\n5,6\n")
    (one,) = read(tmp_path, "train", None)
    np.testing.assert_array_equal(one["times"], [0, 1, 2])
    np.testing.assert_array_equal(one["values"], [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    "text, message",
    [
        ("time,x\n0,1\n1,2,3\n", "a.csv:3: 3 cells, expected 2"),
        ("time,x\n0,one\n", "a.csv:2: column 'x': could not convert string to float: 'one'"),
        ("time,x\nlater,1\n", "a.csv:2: column 'time': .*later"),
        ("time,x\n,1\n", "a.csv:2: "),
        ("t,x\n0,1\n", "a.csv:1: no column is called 'time'; there are t, x. Name that of the"),
        ("time\n0\n", "a.csv:1: columns time; expected different names, of a channel at least"),
        ("time,x,x\n0,1,2\n", "a.csv:1: columns time, x, x; expected different names"),
        ("time,x\n", "a.csv has no rows"),
        ("", "a.csv has no rows"),
    ],
)
def test_a_wrong_file_and_its_line_are_named(tmp_path, text, message):
    write(tmp_path / "train" / "a" / "a.csv", text)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", "time")


@pytest.mark.parametrize(
    "times, message",
    [
        (["20240131", "20240201"], "times such as 20240131 may be days or numbers; .* 2024-01-31"),
        ([" 20240229 "], "times such as  20240229  may be days"),
        (
            ["20240131", "2024-02-01"],
            "times are numbers, such as 20240131, and dates, such as 2024-",
        ),
        (["2024-02-01", "0"], "times are numbers, such as 0, and dates"),
    ],
)
def test_times_that_may_be_days_or_numbers_are_refused(tmp_path, times, message):
    file = write(
        tmp_path / "train" / "a" / "a.csv", "\n".join(["time,x", *(f"{t},1" for t in times)])
    )
    with pytest.raises(DatasetError, match=message) as error:
        read(tmp_path, "train", "time")
    assert str(error.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    "times, seconds",
    [
        (["20240131", "20240132"], [20240131, 20240132]),
        (["20240131", "20230229"], [20240131, 20230229]),
        (["20240131.0"], [20240131]),
        (["18991231"], [18991231]),
        (["2024-01-31", "2024-02-01"], [1706659200, 1706745600]),
        (["20240131T10", "20240131T11"], [1706695200, 1706698800]),
    ],
)
def test_numbers_that_are_no_days_and_days_that_are_no_numbers_are_read(tmp_path, times, seconds):
    write(tmp_path / "train" / "a" / "a.csv", "\n".join(["time,x", *(f"{t},1" for t in times)]))
    (one,) = read(tmp_path, "train", "time")
    assert one["times"].tolist() == seconds


def test_a_channel_may_have_eight_digits(tmp_path):
    write(tmp_path / "train" / "a" / "a.csv", "time,x\n0,20240131\n1,20240201\n")
    for column in ("time", None):
        (one,) = read(tmp_path, "train", column)
        assert one["values"][0, -1] == 20240131.0 and one["times"].tolist() == [0, 1]


def test_files_of_other_channels_are_refused(root):
    write(root / "train" / "walk" / "z.csv", "time,x,z\n0,1,2\n")
    with pytest.raises(DatasetError, match="z.csv:1: channels x, z are not those .* x, y"):
        read(root, "train", "time")


def test_a_missing_or_empty_split_is_an_error(root):
    with pytest.raises(DatasetError, match="no folder 'val'; it has test, train; expected"):
        read(root, "val", "time")
    (root / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty has no series: no files DIR/SPLIT/CLASS"):
        read(root, "empty", "time")
    with pytest.raises(
        DatasetError, match="there is no folder .*nowhere; expected DIR/SPLIT/CLASS"
    ):
        read(root / "nowhere", "train", "time")


def test_a_file_that_is_no_text_is_an_error(root):
    (root / "train" / "walk" / "z.csv").write_bytes(b"time,x\n\xff\xfe\x00,1\n")
    with pytest.raises(DatasetError, match="z.csv cannot be read"):
        read(root, "train", "time")


def test_columns_in_another_order_than_in_the_other_splits_are_an_error(root):
    write(root / "test" / "walk" / "c.csv", "time,y,x\n1,1,2\n")
    with pytest.raises(DatasetError, match="c.csv:1: .*a.csv, x, y; give .* in the same order"):
        read(root, "test", "time")


def test_a_value_too_large_for_float32_is_an_error(root):
    write(root / "test" / "walk" / "c.csv", "time,x,y\n1,1e39,2\n")
    with pytest.raises(DatasetError, match="not finite in float32"):
        read(root, "test", "time")
