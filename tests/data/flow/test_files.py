"""Files of flow: their bytes, against writers made by hand, and what is refused."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from perceiver_jax.data.flow.files import known, read_flow, read_image, write_flow
from perceiver_jax.errors import UserError

FLOW = np.array(
    [[[1.5, -2.25], [0.0, 3.0], [-512.0, 511.984375]], [[7.0, 8.0], [-9.0, 10.5], [0.5, 0.0]]],
    np.float32,
)
FORMATS = [".flo", ".png", ".pfm", ".npy"]


def flo(flow, width=3, height=2):
    numbers = struct.pack("<12f", *flow.ravel())
    return struct.pack("<fii", 202021.25, width, height) + numbers


def kitti(flow, valid):
    """A PNG of 16-bit RGB, without any library of pictures."""
    rows = b""
    for row, mask in zip(flow, valid, strict=True):
        rows += b"\0"
        for (u, v), ok in zip(row, mask, strict=True):
            rows += struct.pack(">3H", int(u * 64 + 32768), int(v * 64 + 32768), ok)

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", flow.shape[1], flow.shape[0], 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def pfm(flow, order="<", mark=b"PF"):
    scale = b"-1.0" if order == "<" else b"1"
    rows = b"".join(struct.pack(f"{order}3f", *uv, 9.0) for row in flow[::-1] for uv in row)
    return mark + b"\n3 2\n" + scale + b"\n" + rows


def npy(array):
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def header(shape, descr):
    """Of a `.npy` without data."""
    packed = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(packed, fields)
    return packed.getvalue()


def contents_of(ending):
    everywhere = np.ones((2, 3), int)
    return {".flo": flo(FLOW), ".png": kitti(FLOW, everywhere), ".pfm": pfm(FLOW)}.get(
        ending, npy(FLOW)
    )


@pytest.mark.parametrize("ending", [*FORMATS, ".FLO"])
def test_flow_is_read(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(contents_of(ending.lower()))
    flow, valid = read_flow(path)
    np.testing.assert_array_equal(flow, FLOW)
    assert flow.dtype == np.float32 and valid.dtype == bool and valid.all()


def test_big_endian_pfm_is_read(tmp_path):
    path = tmp_path / "a.pfm"
    path.write_bytes(pfm(FLOW, ">"))
    np.testing.assert_array_equal(read_flow(path).flow, FLOW)


def test_pfm_whose_data_starts_like_white_space_is_read(tmp_path):
    flow = np.zeros((2, 3, 2), np.float32)
    flow[1, 0, 0] = struct.unpack("<f", b"\n \n ")[0]
    path = tmp_path / "a.pfm"
    path.write_bytes(pfm(flow))
    np.testing.assert_array_equal(read_flow(path).flow, flow)


def test_fortran_order_and_double_precision_are_read(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(FLOW.astype(np.float64)))
    np.testing.assert_array_equal(read_flow(path).flow, FLOW)


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_written_is_read_again(tmp_path, ending):
    valid = np.array([[True, False, True], [False, True, True]])
    path = tmp_path / "new" / f"a{ending}"
    write_flow(path, FLOW, valid)
    flow, mask = read_flow(path)
    np.testing.assert_array_equal(mask, valid)
    np.testing.assert_array_equal(flow, np.where(valid[..., None], FLOW, 0))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_not_finite_is_written_as_unknown(tmp_path, ending):
    flow = FLOW.copy()
    flow[0, 0, 0], flow[1, 1, 1] = np.nan, np.inf
    write_flow(tmp_path / f"a{ending}", flow)
    read = read_flow(tmp_path / f"a{ending}")
    assert not read.valid[0, 0] and not read.valid[1, 1] and read.valid.sum() == 4
    assert np.isfinite(read.flow).all()


def test_written_files_are_those_made_by_hand(tmp_path):
    for ending in (".flo", ".npy"):
        write_flow(tmp_path / f"a{ending}", FLOW)
        assert (tmp_path / f"a{ending}").read_bytes() == contents_of(ending)


def test_invalid_pixels_of_kitti_have_no_flow(tmp_path):
    path = tmp_path / "a.png"
    valid = np.array([[1, 0, 1], [0, 1, 1]])
    path.write_bytes(kitti(FLOW, valid))
    read = read_flow(path)
    np.testing.assert_array_equal(read.valid, valid)
    np.testing.assert_array_equal(read.flow, FLOW * valid[..., None])


def test_unknown_flow_is_0_and_invalid():
    flow = np.array([[[1, 2], [1e9, 0], [0, np.nan], [-np.inf, 3], [-2e9, 0], [5, 6]]], np.float32)
    read = known(flow, np.array([[True, True, True, True, True, False]]))
    np.testing.assert_array_equal(read.valid, [[True, False, False, False, False, False]])
    np.testing.assert_array_equal(read.flow[0, 1:], np.zeros((5, 2)))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_cut_short_is_refused_at_every_length(tmp_path, ending):
    path, whole = tmp_path / f"a{ending}", contents_of(ending)
    # Of a PNG the end mark alone may be missing: no picture is.
    last = len(whole) - (12 if ending == ".png" else 0)
    for length in range(0, last, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"a\{ending} is not a readable flow file"):
            read_flow(path)


@pytest.mark.parametrize("ending", [".flo", ".pfm", ".npy"])
def test_a_file_that_is_too_long_is_refused(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(contents_of(ending) + b"\0")
    with pytest.raises(UserError, match="is not a readable flow file"):
        read_flow(path)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.flo", b"PIEX" + flo(FLOW)[4:], "does not start with 202021.25"),
        ("a.flo", flo(FLOW, width=-3), "-3 wide and 2 high"),
        ("a.flo", flo(FLOW, width=10**9, height=10**9), "1000000000 wide"),
        ("a.flo", flo(FLOW, width=0), "0 wide"),
        ("a.flo", flo(FLOW, height=3), "take 72 bytes, but 48"),
        ("a.png", cv2.imencode(".png", np.zeros((2, 3)))[1].tobytes(), "16 bits"),
        ("a.png", b"not a picture", "damaged"),
        ("a.pfm", pfm(FLOW, mark=b"Pf"), "is it disparity"),
        ("a.pfm", b"PF\n999999999 9\n-1\n", "999999999 wide"),
        ("a.pfm", b"P6\n3 2\n255\n" + bytes(18), "does not start with 'PF'"),
        ("a.npy", npy(FLOW[..., 0]), r"shape \[2, 3\]"),
        ("a.npy", npy(FLOW.astype(int)), "type int64"),
        ("a.npy", npy(np.array([{}, {}], object)), "type object"),
        ("a.npy", header((-1, -2, 2), "<f4") + bytes(16), r"shape \[-1, -2, 2\]"),
        ("a.npy", header((1, 1, 2), "|O") + bytes(16), "type object"),
        ("a.npy", header((1, 1, 2), "<f4") + bytes(4), "but 4 bytes follow"),
        ("a.npy", b"\x93NUMPX", "no .npy"),
    ],
)
def test_another_file_is_refused(tmp_path, name, contents, message):
    path = tmp_path / name
    path.write_bytes(contents)
    with pytest.raises(UserError, match=message) as error:
        read_flow(path)
    assert str(path) in str(error.value)


def test_a_header_that_claims_terabytes_takes_no_memory(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(header((10**6, 10**6, 2), "<f4"))
    with pytest.raises(UserError, match="but 0 bytes follow"):
        read_flow(path)


def test_a_picture_with_a_damaged_byte_is_refused(tmp_path):
    contents = bytearray(kitti(FLOW, np.ones((2, 3), int)))
    contents[len(contents) // 2] ^= 0xFF
    path = tmp_path / "a.png"
    path.write_bytes(bytes(contents))
    with pytest.raises(UserError, match="a.png is not a readable flow file"):
        read_flow(path)


def test_an_unknown_ending_and_a_missing_file_are_errors(tmp_path):
    with pytest.raises(
        UserError, match="no known format of flow; .* ends in .flo, .png, .pfm, .npy"
    ):
        read_flow(tmp_path / "a.tif")
    with pytest.raises(UserError, match="no known format"):
        write_flow(tmp_path / "a", FLOW)
    with pytest.raises(UserError, match="gone.flo cannot be read: No such file"):
        read_flow(tmp_path / "gone.flo")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    write_flow(path, FLOW)
    before = path.read_bytes()
    with pytest.raises(UserError, match="600.0 pixels does not fit .* write .flo"):
        write_flow(path, np.full((2, 2, 2), 600.0))
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
    for wrong in (FLOW[0], FLOW[..., :1], FLOW[:0]):
        with pytest.raises(UserError, match=r"give \[H, W, 2\]"):
            write_flow(path, wrong)
    with pytest.raises(UserError, match=r"valid has the shape \[3, 2\]"):
        write_flow(path, FLOW, np.ones((3, 2), bool))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        write_flow(tmp_path / "file" / "a.flo", FLOW)


@pytest.mark.parametrize("name", ["a.png", "a.ppm", "a.jpg"])
def test_pictures_are_red_first(make_picture, tmp_path, name):
    red = np.zeros((16, 24, 3), np.uint8)
    red[..., 0] = 250
    cv2.imwrite(str(tmp_path / name), red[..., ::-1])
    image = read_image(tmp_path / name)
    assert image.shape == (16, 24, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - red).max() <= 5


def test_grey_pictures_have_three_equal_channels(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.dstack([grey] * 3))


@pytest.mark.parametrize("name", ["a.png", "a.ppm", "a.jpg"])
def test_a_picture_that_is_cut_short_is_refused(make_picture, name):
    path = make_picture(name)
    contents = path.read_bytes()
    for part in (0, 5, len(contents) // 2):
        path.write_bytes(contents[:part])
        with pytest.raises(UserError, match=f"{name} is not a readable image"):
            read_image(path)


def test_a_picture_of_absurd_size_is_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6\n100000 100000\n255\n" + bytes(100))
    with pytest.raises(UserError, match="a.ppm is not a readable image"):
        read_image(tmp_path / "a.ppm")
