"""The engine: both directions, every kind of problem, all problems at once."""

import numpy as np
import pytest

from interop import ops
from interop.rows import MappingError, ignore, load, row, save, table


def numbers(*shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def kinds(error):
    return [(problem.kind, problem.name) for problem in error.value.problems]


ROWS = [
    row("layer/kernel", "layer.weight", ops.TRANSPOSE),
    row("layer/bias", "layer.bias"),
    row("embedding", "embed.weight", tied=("head.weight",)),
    ignore("positions", "made of the bias", lambda ours: ours["layer/bias"] * 2, tolerance=1e-3),
]
OURS = {
    "layer/kernel": numbers(2, 3).T.copy(),
    "layer/bias": numbers(2),
    "embedding": numbers(4, 2),
}
THEIRS = {
    "layer.weight": numbers(2, 3),
    "layer.bias": numbers(2),
    "embed.weight": numbers(4, 2),
    "head.weight": numbers(4, 2),
    "positions": numbers(2) * 2,
}


def assert_equal(got, want):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
        assert got[name].dtype == want[name].dtype


def test_load():
    assert_equal(load(ROWS, THEIRS, OURS), OURS)


def test_save():
    assert_equal(save(ROWS, OURS, THEIRS), THEIRS)
    assert_equal(save(ROWS, OURS), THEIRS)


@pytest.mark.parametrize(
    ("op", "theirs", "ours"),
    [
        (ops.KEEP, (2, 3), (2, 3)),
        (ops.TRANSPOSE, (2, 3), (3, 2)),
        (ops.CONV2D, (2, 3, 4, 5), (4, 5, 3, 2)),
        (ops.RESHAPE((1, 1, 6), (2, 3)), (1, 1, 6), (2, 3)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_ops_invert(op, theirs, ours):
    array = numbers(*theirs)
    (loaded,) = op.load([array])
    (saved,) = op.save([loaded])
    assert loaded.shape == ours
    np.testing.assert_array_equal(saved, array)


def test_what_lies_apart_there_is_joined_here():
    """Two [out, in] tensors are the first and the second half of our [in, out]."""
    op = ops.JOIN(2, 1, ops.TRANSPOSE)
    first, second = numbers(3, 2), -numbers(3, 2)
    (joined,) = op.load([first, second])
    np.testing.assert_array_equal(joined, np.concatenate([first.T, second.T], 1))
    for got, want in zip(op.save([joined]), (first, second), strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match=r"shapes \[3, 2\] and \[2, 3\] are not equal"):
        op.load([first, numbers(2, 3)])
    with pytest.raises(ValueError, match="has no 2 equal parts on axis 1"):
        op.save([numbers(2, 5)])


def test_conv2d_moves_the_right_axes():
    """Out, in, height, width there; height, width, in, out here."""
    array = numbers(2, 3, 4, 5)
    (loaded,) = ops.CONV2D.load([array])
    assert loaded[3, 4, 2, 1] == array[1, 2, 3, 4]


def test_reshape_refuses_other_shapes_of_the_same_size():
    with pytest.raises(ValueError, match=r"shape \[3, 2\] instead of \[2, 3\]"):
        ops.RESHAPE((2, 3), (6,)).load([numbers(3, 2)])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"layer.bias": None}, [("missing", "layer.bias")]),
        ({"head.weight": None}, [("missing", "head.weight")]),
        ({"positions": None}, [("missing", "positions")]),
        ({"stranger": numbers(1)}, [("unexpected", "stranger")]),
        ({"layer.weight": numbers(3, 2)}, [("shape", "layer/kernel")]),
        ({"layer.weight": numbers(6)}, [("shape", "layer.weight")]),
        ({"positions": numbers(3)}, [("shape", "positions")]),
        ({"layer.bias": numbers(2, dtype=np.float64)}, [("dtype", "layer/bias")]),
        ({"head.weight": numbers(4, 2) + 1}, [("not tied", "head.weight")]),
        ({"positions": numbers(2) * 2.1}, [("value", "positions")]),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_problems_on_load(change, expected):
    theirs = {name: array for name, array in (THEIRS | change).items() if array is not None}
    with pytest.raises(MappingError) as error:
        load(ROWS, theirs, OURS)
    assert kinds(error) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"layer/bias": None}, [("missing", "layer/bias")]),
        ({"stranger": numbers(1)}, [("unexpected", "stranger")]),
        ({"layer/kernel": numbers(2, 3)}, [("shape", "layer.weight")]),
        (
            {"embedding": numbers(4, 2, dtype=np.int32)},
            [("dtype", "embed.weight"), ("dtype", "head.weight")],
        ),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_problems_on_save(change, expected):
    ours = {path: array for path, array in (OURS | change).items() if array is not None}
    with pytest.raises(MappingError) as error:
        save(ROWS, ours, THEIRS)
    assert kinds(error) == expected


def test_a_receiver_that_the_table_does_not_cover():
    want = {**OURS, "more": numbers(1)}
    del want["embedding"]
    with pytest.raises(MappingError) as error:
        load(ROWS, THEIRS, want)
    assert kinds(error) == [("unexpected", "embedding"), ("missing", "more")]


def test_all_problems_are_reported_at_once():
    theirs = {**THEIRS, "stranger": numbers(1), "layer.weight": numbers(2, 2)}
    del theirs["layer.bias"]
    with pytest.raises(MappingError, match="3 problems") as error:
        load(ROWS, theirs, OURS)
    for kind, name in (
        ("unexpected", "stranger"),
        ("missing", "layer.bias"),
        ("shape", "layer/kernel"),
    ):
        assert f"{kind:<10} {name}: " in str(error.value)


@pytest.mark.parametrize(
    ("second", "name"),
    [
        (row("layer/bias", "other"), "layer/bias"),
        (row("other", "layer.bias"), "layer.bias"),
        (row("other", "head.weight"), "head.weight"),
        (ignore("layer.bias", "", lambda ours: ours["embedding"]), "layer.bias"),
    ],
)
def test_duplicates_are_refused_when_a_table_is_built(second, name):
    for refuse in (table, lambda rows: load(rows, THEIRS, OURS), lambda rows: save(rows, OURS)):
        with pytest.raises(MappingError) as error:
            refuse([*ROWS, second])
        assert kinds(error) == [("duplicate", name)]
