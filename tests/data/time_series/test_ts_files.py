import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.time_series.ts_files import read_folder, read_ts

HEADER = """# Where it comes from.
% Another kind of remark.

@problemName Toy
@timeStamps {timestamps}
@missing true
@univariate false
@dimensions {dimensions}
@equalLength false
@classLabel true left right
@data
"""


def write(path, *lines, timestamps="false", dimensions=2):
    header = HEADER.format(timestamps=timestamps, dimensions=dimensions)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "\n".join(lines) + "\n")
    return path


def test_dimensions_stand_beside_each_other_and_lengths_differ(tmp_path):
    file = write(tmp_path / "a.ts", "1,2,3:4,5,6:right", "", "# between", " 7 : 8 : left ")
    source = read_ts(file)
    assert source.class_names == ("left", "right") and len(source) == 2
    first, second = source
    np.testing.assert_array_equal(first["values"], [[1, 4], [2, 5], [3, 6]])
    assert first["values"].dtype == np.float32
    np.testing.assert_array_equal(first["times"], [0, 1, 2])
    np.testing.assert_array_equal(second["values"], [[7, 8]])
    assert [first["label"], second["label"]] == [1, 0]
    assert [first["index"], second["index"]] == [0, 1]


def test_question_marks_are_missing(tmp_path):
    (one,) = read_ts(write(tmp_path / "a.ts", "1,?,3:?,NaN,6:left"))
    np.testing.assert_array_equal(one["values"], [[1, np.nan], [np.nan, np.nan], [3, 6]])


def test_times_may_be_numbers_and_differ_between_dimensions(tmp_path):
    line = "(0.5,1.0),(2,3.0):(0.5,4.0),(1.25,5.0),(2,?):left"
    (one,) = read_ts(write(tmp_path / "a.ts", line, timestamps="true"))
    np.testing.assert_array_equal(one["times"], [0.5, 1.25, 2.0])
    np.testing.assert_array_equal(one["values"], [[1, 4], [np.nan, 5], [3, np.nan]])


def test_times_may_be_dates(tmp_path):
    line = "(2024-03-30 23:59:00,1.0),(2024-03-31 00:01:30,2.0):right"
    (one,) = read_ts(write(tmp_path / "a.ts", line, timestamps="True", dimensions=1))
    assert np.diff(one["times"]).tolist() == [150.0]
    assert one["label"] == 1


def test_a_dimension_may_be_missing_where_another_has_times(tmp_path):
    lines = ("(0.5,1.0),(2,3.0):?:left", "?:(7,4.0):right", " ? : (7,?) : right")
    first, second, third = read_ts(write(tmp_path / "a.ts", *lines, timestamps="true"))
    np.testing.assert_array_equal(first["times"], [0.5, 2.0])
    np.testing.assert_array_equal(first["values"], [[1, np.nan], [3, np.nan]])
    np.testing.assert_array_equal(second["times"], [7])
    np.testing.assert_array_equal(second["values"], [[np.nan, 4]])
    np.testing.assert_array_equal(third["values"], [[np.nan, np.nan]])


@pytest.mark.parametrize(
    "line, message",
    [
        ("?:?:left", "every dimension is missing.* take the case away"),
        ("(20240131,1):(20240201,2),(20240202,3):left", "times such as 20240131 may be days or"),
        (
            "(2024-01-31,1):(7,2):left",
            "times are numbers, such as 7, and dates, such as 2024-01-31",
        ),
    ],
)
def test_times_that_mean_nothing_or_two_things_are_refused(tmp_path, line, message):
    with pytest.raises(DatasetError, match=f"a.ts:12: {message}"):
        read_ts(write(tmp_path / "a.ts", line, timestamps="true"))


@pytest.mark.parametrize(
    "line, message",
    [
        ("1,2:3,4:middle", "'middle' is none of the classes 'left', 'right'"),
        ("1,2:left", "the case has 1 dimensions, expected 2"),
        ("1,2:3:left", "dimensions of different lengths, 2, 1, need timestamps"),
        ("1,x:3,4:left", "could not convert string to float: 'x'"),
        ("1,inf:3,4:left", "inf is not finite"),
        ("left", "no ':' divides the values from a class label"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    file = write(tmp_path / "a.ts", "1:2:left", line)
    with pytest.raises(DatasetError, match=message) as error:
        read_ts(file)
    assert str(error.value).startswith(f"{file}:13: ")


@pytest.mark.parametrize(
    "line, message",
    [
        ("(0,1),(0,2):left", "time 0 stands twice in a dimension"),
        ("(0,1),2:left", r"'2' is no \(time,value\)"),
        ("1,2:left", r"'1,2' is no \(time,value\)"),
        ("(noon,1):left", "noon"),
        ("(0,1)(:left", r"'\(' is no \(time,value\)"),
        (":left", r"'' is no \(time,value\)"),
    ],
)
def test_a_wrong_time_is_named(tmp_path, line, message):
    file = write(tmp_path / "a.ts", line, timestamps="true", dimensions=1)
    with pytest.raises(DatasetError, match=message):
        read_ts(file)


@pytest.mark.parametrize(
    "text, message",
    [
        ("@classLabel true a b\n1,2:a\n", r"a.ts:2: '1,2:a' stands before @data.*; is it a whole"),
        ("@classLabel true a b\n", "no line @data"),
        ("@targetlabel true\n@data\n1,2:0.5\n", "no line '@classLabel true'"),
        ("@classLabel false\n@data\n1,2\n", "no line '@classLabel true'"),
        ("@dimensions many\n@classLabel true a\n@data\n", "@dimensions many is no number"),
    ],
)
def test_a_file_that_is_no_classification_problem_is_refused(tmp_path, text, message):
    (tmp_path / "a.ts").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_ts(tmp_path / "a.ts")


def test_without_a_number_of_dimensions_the_first_case_counts(tmp_path):
    (tmp_path / "a.ts").write_text("@classLabel true a\n@data\n1:2:a\n3:4:a\n5:a\n")
    with pytest.raises(DatasetError, match="a.ts:5: the case has 1 dimensions, expected 2"):
        read_ts(tmp_path / "a.ts")
    (tmp_path / "b.ts").write_text("@univariate true\n@classLabel true a\n@data\n1:2:a\n")
    with pytest.raises(DatasetError, match="has 2 dimensions, expected 1"):
        read_ts(tmp_path / "b.ts")


def test_the_splits_of_a_folder_are_found_by_their_names(tmp_path):
    write(tmp_path / "Toy" / "Toy_TRAIN.ts", "1:2:left", "3:4:right")
    write(tmp_path / "Toy" / "Toy_TEST.ts", "5:6:left")
    assert len(read_folder(tmp_path / "Toy", "train")) == 2
    assert len(read_folder(tmp_path / "Toy", "test")) == 1
    # The archives lay versions of other lengths beside.
    write(tmp_path / "Toy" / "Toy_eq_TRAIN.ts", "1:2:left")
    assert len(read_folder(tmp_path / "Toy", "train")) == 2
    write(tmp_path / "Toy" / "Toy_eq_TEST.ts", "1:2:left")
    moved = (tmp_path / "Toy").rename(tmp_path / "other")
    with pytest.raises(DatasetError, match="one file .*_TEST.ts, or other_TEST.ts, in .*other"):
        read_folder(moved, "test")
    with pytest.raises(DatasetError, match="split 'val' .*there: Toy_TEST.ts, Toy_TRAIN.ts"):
        read_folder(moved, "val")


def test_what_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="gone' is no folder"):
        read_folder(tmp_path / "gone", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no .ts files"):
        read_folder(tmp_path / "empty", "train")
    (tmp_path / "a_TRAIN.ts").mkdir()
    with pytest.raises(DatasetError, match="a_TRAIN.ts cannot be read"):
        read_folder(tmp_path, "train")
