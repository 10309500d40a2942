import numpy as np
import pytest

from perceiver_jax.pipelines.flow_tiles import Tiles, border_distance

TILE = (368, 496)


@pytest.mark.parametrize("size", [(368, 496), (436, 1024), (375, 1242), (700, 960), (1080, 1920)])
def test_tiles_cover_an_image_and_lie_inside(size):
    tiles = Tiles(size, TILE)
    seen = np.zeros(size, int)
    for row, column in tiles.places:
        assert 0 <= row <= size[0] - TILE[0] and 0 <= column <= size[1] - TILE[1]
        seen[row : row + TILE[0], column : column + TILE[1]] += 1
    assert seen.min() >= 1
    assert len(set(tiles.places)) == len(tiles.places)


@pytest.mark.parametrize("height", range(368, 1100, 7))
def test_neighbours_overlap_as_asked(height):
    rows = sorted({row for row, _ in Tiles((height, 496), TILE).places})
    assert all(b - a <= TILE[0] - 20 for a, b in zip(rows, rows[1:], strict=False))


@pytest.mark.parametrize("name", ["436x1024", "375x1242", "800x600", "368x496"])
def test_places_are_those_of_deepmind_where_its_are_right(golden_tiling, name):
    size = tuple(map(int, name.split("x")))
    theirs = [tuple(map(int, place)) for place in golden_tiling[f"outputs/grid/{name}"]]
    # Of one size of a tile it has the same place several times.
    assert Tiles(size, TILE).places == list(dict.fromkeys(theirs))


def test_blending_is_that_of_deepmind(golden_tiling):
    tiles = Tiles((12, 17), (6, 8), min_overlap=2)
    assert tiles.places == [tuple(place) for place in golden_tiling["inputs/stitch/grid"]]
    flow = tiles.blend(iter(golden_tiling["inputs/stitch/tiles"][:, 0]))
    np.testing.assert_allclose(flow, golden_tiling["outputs/stitch/flow"][0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(12, 17), (6, 8), (4, 17), (3, 5)])
def test_tiles_of_a_field_make_the_field(size):
    field = np.random.default_rng(0).normal(size=(*size, 2)).astype(np.float32)
    tiles = Tiles(size, (6, 8), min_overlap=2)
    np.testing.assert_allclose(tiles.blend(tiles.cut(field)), field, rtol=1e-6)


def test_a_small_image_repeats_its_border():
    (tile,) = Tiles((2, 2), (3, 4), min_overlap=1).cut(np.arange(4.0).reshape(2, 2, 1))
    np.testing.assert_array_equal(tile[..., 0], [[0, 1, 1, 1], [2, 3, 3, 3], [2, 3, 3, 3]])


def test_weights_fall_towards_the_border():
    np.testing.assert_array_equal(
        border_distance((3, 4)), [[1, 1, 1, 1], [1, 2, 2, 1], [1, 1, 1, 1]]
    )


@pytest.mark.parametrize("overlap", [-1, 6])
def test_an_overlap_of_whole_tiles_is_refused(overlap):
    with pytest.raises(ValueError, match="cannot overlap"):
        Tiles((12, 17), (6, 8), min_overlap=overlap)
