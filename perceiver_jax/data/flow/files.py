"""Files of optical flow and of images.

- `.flo`: Middlebury's, little-endian float32; from 1e9 on a value says that nothing is known.
- `.png`: KITTI's, 16 bits: `64 u + 2^15`, `64 v + 2^15`, and whether it is valid.
- `.pfm`: FlyingThings3D's, rows from the bottom up, u and v first of three channels.
- `.npy`: an array [H, W, 2] of floats, NaN where nothing is known.
- Flow is (dx, dy) in pixels, to the right and down, [H, W, 2].
"""

import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from perceiver_jax.errors import UserError
from perceiver_jax.whole_files import write_whole

cv2.setNumThreads(0)

MAGIC = 202021.25
"""First number of a `.flo` file: "PIEH" as bytes."""
UNKNOWN = 1e9
"""Flow of this length or more stands for none."""
_UNKNOWN_VALUE = 1666666752.0
_MAX_SIDE = 99_999


class Flow(NamedTuple):
    """Flow, and where it is known.

    Attributes:
        flow: [H, W, 2] float32, 0 where it is not known.
        valid: [H, W] bool.
    """

    flow: np.ndarray
    valid: np.ndarray


class _FormatError(Exception):
    """What is wrong with the contents of a file."""


def read_image(path: str | Path) -> np.ndarray:
    """A picture of any common format, [H, W, 3] uint8, red first; grey has three equal channels.

    Raises:
        UserError: it is not there, or no whole picture.
    """
    path = Path(path)
    try:
        return decode_image(_contents(path))
    except _FormatError as error:
        raise UserError(f"{path} is not a readable image: {error}; get it again") from error


def decode_image(contents: bytes) -> np.ndarray:
    """Contents of a picture as [H, W, 3] uint8, red first."""
    return _decoded(contents, cv2.IMREAD_COLOR_RGB)


def read_flow(path: str | Path) -> Flow:
    """Flow of a file, by its ending.

    Raises:
        UserError: it is not there, of no known ending, or not what its ending says.
    """
    path = Path(path)
    read = _format(path)[0]
    try:
        return known(read(_contents(path)))
    except _FormatError as error:
        raise UserError(f"{path} is not a readable flow file: {error}; get it again") from error


def write_flow(path: str | Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes a file of flow, by its ending, whole or not at all.

    Args:
        path: ends in .flo, .png, .pfm or .npy.
        flow: [H, W, 2] in pixels; in `.png` from -512 to 511.98, rounded to 1/64.
        valid: [H, W] bool; None: where flow is finite.

    Raises:
        UserError: of no known ending, no flow, out of range, or it cannot be written.
    """
    path = Path(path)
    encode = _format(path)[1]
    flow = np.asarray(flow, np.float32)
    if flow.ndim != 3 or flow.shape[-1] != 2 or not flow.size:
        raise UserError(f"flow of shape {list(flow.shape)} cannot be written; give [H, W, 2]")
    mask = known(flow).valid if valid is None else np.asarray(valid, bool)
    if mask.shape != flow.shape[:2]:
        raise UserError(f"valid has the shape {list(mask.shape)}, not {list(flow.shape[:2])}")
    try:
        write_whole(path, encode(flow, mask))
    except _FormatError as error:
        raise UserError(f"{path} was not written: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def known(flow: np.ndarray, valid: np.ndarray | None = None) -> Flow:
    """Flow with 0 where it is not finite, or `UNKNOWN` or more, or not valid already."""
    with np.errstate(invalid="ignore"):
        mask = np.all(np.abs(flow) < UNKNOWN, axis=-1)
    mask = np.asarray(mask if valid is None else mask & valid)
    return Flow(np.where(mask[..., None], flow, 0).astype(np.float32), mask)


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _decoded(contents: bytes, flag: int) -> np.ndarray:
    if not contents:
        raise _FormatError("it is empty")
    try:
        image = cv2.imdecode(np.frombuffer(contents, np.uint8), flag)
    except cv2.error as error:
        raise _FormatError(str(error.err or error)) from error
    if image is None:
        raise _FormatError("it is damaged, cut short, or of another format")
    return image


def _expect(found: int, width: int, height: int, bytes_per_pixel: int) -> None:
    """Raises for sizes that are none, or of which the data is not there or too long."""
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise _FormatError(f"it says that it is {width} wide and {height} high")
    wanted = width * height * bytes_per_pixel
    if found != wanted:
        raise _FormatError(f"{width}×{height} pixels take {wanted} bytes, but {found} are there")


def _read_flo(contents: bytes) -> np.ndarray:
    if len(contents) < 12 or np.frombuffer(contents[:4], "<f4")[0] != np.float32(MAGIC):
        raise _FormatError(f"it does not start with {MAGIC}, the mark of .flo")
    width, height = (int(size) for size in np.frombuffer(contents[4:12], "<i4"))
    _expect(len(contents) - 12, width, height, 8)
    return np.frombuffer(contents, "<f4", offset=12).reshape(height, width, 2)


def _encode_flo(flow: np.ndarray, valid: np.ndarray) -> bytes:
    height, width = valid.shape
    filled = np.where(valid[..., None], flow, np.float32(_UNKNOWN_VALUE)).astype("<f4")
    sizes = np.array([width, height], "<i4")
    return np.array(MAGIC, "<f4").tobytes() + sizes.tobytes() + filled.tobytes()


def _read_kitti(contents: bytes) -> np.ndarray:
    image = _decoded(contents, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint16 or image.ndim != 3 or image.shape[-1] != 3:
        raise _FormatError(
            f"flow of KITTI has 3 channels of 16 bits, this has the shape {list(image.shape)} and "
            f"type {image.dtype}"
        )
    # OpenCV turns the channels around: valid, v, u.
    flow = (image[..., :0:-1].astype(np.float32) - 2**15) / 64
    return np.where(image[..., :1] > 0, flow, np.nan)


def _encode_kitti(flow: np.ndarray, valid: np.ndarray) -> bytes:
    numbers = np.round(np.where(valid[..., None], flow, 0) * 64) + 2**15
    if numbers.min() < 0 or numbers.max() > 2**16 - 1:
        raise _FormatError(
            f"flow of {np.abs(flow[valid]).max():.1f} pixels does not fit into a .png, whose range "
            "is -512 to 511.98; write .flo"
        )
    numbers = np.where(valid[..., None], numbers, 0)
    image = np.dstack([valid, numbers[..., 1], numbers[..., 0]]).astype(np.uint16)
    return cv2.imencode(".png", image)[1].tobytes()


_PFM_HEADER = re.compile(rb"(PF|Pf)\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s")


def _read_pfm(contents: bytes) -> np.ndarray:
    header = _PFM_HEADER.match(contents)
    if header is None:
        raise _FormatError("it does not start with 'PF', width, height and scale, as .pfm does")
    if header[1] == b"Pf":
        raise _FormatError("it has one channel, and flow has two; is it disparity?")
    width, height = int(header[2]), int(header[3])
    _expect(len(contents) - header.end(), width, height, 12)
    order = "<f4" if header[4].startswith(b"-") else ">f4"
    rows = np.frombuffer(contents, order, offset=header.end()).reshape(height, width, 3)
    return rows[::-1, :, :2]


def _encode_pfm(flow: np.ndarray, valid: np.ndarray) -> bytes:
    height, width = valid.shape
    channels = np.zeros((height, width, 3), "<f4")
    channels[..., :2] = np.where(valid[..., None], flow, np.nan)
    return f"PF\n{width} {height}\n-1.0\n".encode() + channels[::-1].tobytes()


def _read_npy(contents: bytes) -> np.ndarray:
    """Not by `np.load`, which makes room for whatever size the header says."""
    packed = io.BytesIO(contents)
    try:
        version = np.lib.format.read_magic(packed)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
        header = header or np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(packed)
    except ValueError as error:
        raise _FormatError(f"it is no .npy ({error})") from error
    if len(shape) != 3 or min(shape) < 1 or shape[-1] != 2 or dtype.kind != "f":
        raise _FormatError(
            f"it has the shape {list(shape)} and type {dtype}; expected [H, W, 2] floats"
        )
    found = len(contents) - packed.tell()
    if found != math.prod(shape) * dtype.itemsize:
        raise _FormatError(f"its header says shape {list(shape)}, but {found} bytes follow")
    array = np.frombuffer(contents, dtype, offset=packed.tell())
    return array.reshape(shape, order="F" if by_columns else "C")


def _encode_npy(flow: np.ndarray, valid: np.ndarray) -> bytes:
    packed = io.BytesIO()
    filled = np.where(valid[..., None], flow, np.nan).astype(np.float32)
    np.lib.format.write_array(packed, filled, allow_pickle=False)
    return packed.getvalue()


_Format = tuple[Callable[[bytes], np.ndarray], Callable[[np.ndarray, np.ndarray], bytes]]
"""How contents are read, and how flow and where it is valid become contents."""
_FORMATS: dict[str, _Format] = {
    ".flo": (_read_flo, _encode_flo),
    ".png": (_read_kitti, _encode_kitti),
    ".pfm": (_read_pfm, _encode_pfm),
    ".npy": (_read_npy, _encode_npy),
}


def _format(path: Path) -> _Format:
    if path.suffix.lower() not in _FORMATS:
        raise UserError(
            f"{path} is of no known format of flow; name a file that ends in {', '.join(_FORMATS)}"
        )
    return _FORMATS[path.suffix.lower()]
