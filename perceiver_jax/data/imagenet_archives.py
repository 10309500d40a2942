"""The two archives of ImageNet: which images are in them, and where; nothing is unpacked.

- ILSVRC2012_img_train.tar has an archive for each class, n01440764.tar and so on, of its images.
- ILSVRC2012_img_val.tar has images ILSVRC2012_val_00000001.JPEG to ..._00050000.JPEG. Their classes
  are not in it, but in a list by number.
- One of the images is a PNG in spite of its name, and some have the four colours of print. They
  are passed on as they are, too.
"""

import contextlib
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple

from rich.console import Console
from rich.progress import track

from perceiver_jax.data.imagenet import imagenet_synsets
from perceiver_jax.data.sources import DatasetError

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
"""First bytes of JPEG and PNG files."""
_BLOCK = 512
"""Bytes; archives consist of blocks, and end with blocks of zeros."""


class ArchivedImage(NamedTuple):
    """An image file in an archive.

    Attributes:
        name: of the file, unlike all others.
        synset: its class.
        offset: where its contents begin in the archive, in bytes.
        size: their length.
    """

    name: str
    synset: str
    offset: int
    size: int


def find_archive(folder: Path, name: str) -> Path:
    """The path of an archive.

    Raises:
        DatasetError: it is not there.
    """
    path = folder.expanduser() / name
    if not path.is_file():
        there = ", ".join(sorted(x.name for x in path.parent.glob("*.tar"))) or "none"
        raise DatasetError(
            f"there is no archive {path} (archives in that folder: {there}); download it from "
            "image-net.org, which asks for an account, and leave its name as it is"
        )
    return path


def training_images(path: Path) -> list[ArchivedImage]:
    """The images of the training archive, class by class.

    Raises:
        DatasetError: it is damaged, classes are missing, or a file in it is no image.
    """
    images = []
    with _reading(path) as (file, archive):
        classes = {PurePosixPath(member.name): member for member in archive if member.isfile()}
        _check_classes(path, list(classes))
        shown = track(
            classes.items(), "looking through classes", console=Console(stderr=True), transient=True
        )
        for name, member in shown:
            with _opened(archive.extractfile(member), f"{name} in {path}") as inner:
                found = [
                    ArchivedImage(image, name.stem, member.offset_data + offset, size)
                    for image, offset, size in _files(inner)
                ]
            if not found:
                raise DatasetError(f"{name} in {path} has no images; download the archive again")
            _check_images(path, file, found)
            images += found
    return images


def validation_images(path: Path, synsets: Sequence[str]) -> list[ArchivedImage]:
    """The images of the validation archive.

    Args:
        path: of the archive.
        synsets: the class of each image, by its number.

    Raises:
        DatasetError: it is damaged, or a file in it is no image, or none of these.
    """
    with _reading(path) as (file, archive):
        images = []
        for name, offset, size in _files(archive):
            match = _VALIDATION_NAME.fullmatch(name)
            number = int(match[1]) if match else 0
            if not 1 <= number <= len(synsets):
                raise DatasetError(
                    f"{path} has a file {name}; expected ILSVRC2012_val_00000001.JPEG to "
                    f"ILSVRC2012_val_{len(synsets):08}.JPEG. Is it another archive of that name?"
                )
            images.append(ArchivedImage(name, synsets[number - 1], offset, size))
        if not images:
            raise DatasetError(f"{path} has no images; download it again")
        _check_images(path, file, images)
    return images


def read_image(file: BinaryIO, image: ArchivedImage) -> bytes:
    """Contents of an image file, of the archive that is open as `file`."""
    file.seek(image.offset)
    return file.read(image.size)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[tuple[BinaryIO, tarfile.TarFile]]:
    """The archive, as a file of bytes and as one of files; damage becomes a DatasetError."""
    try:
        with open(path, "rb") as file, open(path, "rb") as same, _opened(same, path) as archive:
            yield file, archive
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(
            f"{path} is damaged or was not downloaded to its end: {error}; compare its checksum "
            "with that on image-net.org, and download it again"
        ) from error


@contextlib.contextmanager
def _opened(file: IO[bytes] | None, what: object) -> Iterator[tarfile.TarFile]:
    """An archive that ends where it says so."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            yield archive
            archive.getmembers()
            # tarfile takes a damaged header for the end, if it is not the first.
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(_BLOCK).strip(b"\0"):
                raise tarfile.ReadError("a header is damaged")
    except tarfile.TarError as error:
        raise tarfile.ReadError(f"{what}: {error}") from error


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of the files of an archive, without their folders."""
    for member in archive:
        if member.isfile():
            yield PurePosixPath(member.name).name, member.offset_data, member.size


def _check_classes(path: Path, names: Sequence[PurePosixPath]) -> None:
    """Raises a DatasetError unless there is one archive for each class."""
    found, wanted = {str(name) for name in names}, {f"{x}.tar" for x in imagenet_synsets()}
    if found - wanted:
        raise DatasetError(
            f"{path} has a file {min(found - wanted)}, which is the archive of no class; expected "
            f"{min(wanted)} and so on. Is it another archive of that name?"
        )
    if wanted - found:
        some = ", ".join(sorted(wanted - found)[:3])
        raise DatasetError(
            f"{path} has {len(found):,} of {len(wanted):,} classes; missing are {some}"
            f"{' and others' if len(wanted - found) > 3 else ''}. Download it again"
        )


def _check_images(path: Path, file: BinaryIO, images: Sequence[ArchivedImage]) -> None:
    """Raises a DatasetError where a file does not begin as one of an image."""
    for image in images:
        file.seek(image.offset)
        if not file.read(4).startswith(_MAGIC):
            raise DatasetError(
                f"{image.name} ({image.synset}) in {path} is neither a JPEG nor a PNG file; "
                "download the archive again"
            )
