"""Photos that synthetic pairs are made of, and the stereo pair 'motorcycle', out of scikit-image.

- They are read from the package where it is installed, without importing it. Else
  `python -m perceiver_jax.data.flow.photos` fetches its wheel once and keeps 16 files of it.
- Photos of the split 'val' are in no training pair. scikit-learn's two join those of 'train' where
  it is installed; 'val' is the same everywhere.
- Every file is known by its SHA-256: another one is not taken.
- Most are in the public domain or CC0, see the licence of scikit-image; those of scikit-learn,
  by danielbuechele and vultilion, are CC BY 2.0.
"""

import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from perceiver_jax.data.fetch_command import fetch_command
from perceiver_jax.data.flow.files import decode_image
from perceiver_jax.data.folders import datasets_folder
from perceiver_jax.data.package_files import digest, installed, keep
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split

FILE = "scikit-image-0.26.0.zip"
PROJECT = "scikit-image"
ARCHIVE = "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
"""Any other wheel of this version has the same files, too."""
_FOLDER = "skimage/data/"
_COMMAND = "python -m perceiver_jax.data.flow.photos"

TRAIN = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "text.png": "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
}
VAL = {
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}
MOTORCYCLE = {
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "motorcycle_right.png": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
    "motorcycle_disp.npz": "2e49c8cebff3fa20359a0cc6880c82e1c03bbb106da81a177218281bc2f113d7",
}
MEMBERS = TRAIN | VAL | MOTORCYCLE
"""SHA-256 of each file taken from scikit-image."""
SKLEARN = {
    "china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
}
"""SHA-256 of each file taken from scikit-learn, where it is installed."""


def load_photos(
    split: str, data_dir: str | None = None, *, max_size: int = 768
) -> tuple[np.ndarray, ...]:
    """The photos of a split, always in the same order, [h, w, 3] uint8.

    Args:
        split: 'train' or 'val'.
        data_dir: the folder of datasets; None: the default place.
        max_size: larger ones are shrunk until neither side is longer, in pixels.

    Raises:
        DatasetError: there is no such split, or they are not there.
    """
    check_split(split, ("train", "val"))
    contents = [read_member(name, data_dir) for name in (VAL if split == "val" else TRAIN)]
    if split == "train":
        found = (installed("sklearn", f"datasets/images/{name}", SKLEARN[name]) for name in SKLEARN)
        contents += [photo for photo in found if photo is not None]
    return tuple(_not_larger(decode_image(photo), max_size) for photo in contents)


def _not_larger(photo: np.ndarray, max_size: int) -> np.ndarray:
    height, width = photo.shape[:2]
    scale = max_size / max(height, width)
    if scale >= 1.0:
        return photo
    size = (round(width * scale), round(height * scale))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)


def path_of(data_dir: str | None) -> Path:
    """Where the file is, or will be."""
    return datasets_folder(data_dir) / "photos" / FILE


def read_member(name: str, data_dir: str | None = None) -> bytes:
    """Contents of one of `MEMBERS`, of the fetched file, else of the installed package.

    Raises:
        DatasetError: it is in neither, or damaged.
    """
    path = path_of(data_dir)
    if path.is_file():
        return _unpacked(path, name)
    found = installed("skimage", f"data/{name}", MEMBERS[name])
    if found is not None:
        return found
    where = "" if data_dir is None else f" --data_dir={data_dir}"
    raise DatasetError(
        f"the photos of scikit-image are not at {path}, and version 0.26.0 is not installed; fetch "
        f"them: {_COMMAND}{where}"
    )


def _unpacked(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as packed:
            contents = packed.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} is damaged ({error}); delete it and fetch it again: {_COMMAND}"
        ) from error
    if digest(contents) != MEMBERS[name]:
        raise DatasetError(
            f"{name} in {path} was changed; delete the file and fetch it again: {_COMMAND}"
        )
    return contents


def prepare(archive: bytes, data_dir: str | None) -> Path:
    """Takes the files out of a wheel of scikit-image, of which nothing is installed or run.

    Args:
        archive: contents of the wheel, for whichever platform.
        data_dir: the folder of datasets; None: the default place.

    Returns:
        The file written, a zip file.

    Raises:
        DatasetError: it is no such wheel, or the file cannot be written.
    """
    packed = io.BytesIO()
    try:
        with (
            zipfile.ZipFile(io.BytesIO(archive)) as wheel,
            zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as kept,
        ):
            for name, sha256 in MEMBERS.items():
                contents = wheel.read(_FOLDER + name)
                if digest(contents) != sha256:
                    raise DatasetError(
                        f"{name} in the archive has not the SHA-256 {sha256}: it is no wheel of "
                        "scikit-image 0.26.0, or it was changed; nothing was written"
                    )
                # Without the time of day: the file is the same whenever it is made.
                kept.writestr(zipfile.ZipInfo(name), contents)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"the archive is no wheel of scikit-image 0.26.0 ({error}); nothing was written"
        ) from error
    path = path_of(data_dir)
    keep(path, packed.getvalue())
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the files, or takes them out of a local archive; returns the exit code."""
    return fetch_command(
        arguments,
        prog=_COMMAND,
        description="Fetches the photos of scikit-image from the package index, for the flow "
        "datasets 'synthetic' and 'middlebury'.",
        project=PROJECT,
        archive=ARCHIVE,
        archive_help="a wheel of scikit-image 0.26.0, if one is on this machine",
        prepare=prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
