"""Datasets of optical flow in folders, as they are unpacked: Sintel, KITTI, Chairs, Things.

- Splits are 'train', 'val' and 'all'. Each dataset says below what 'val' is.
- What is missing is found when a split is opened, not when its pair is read.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from perceiver_jax.data.flow.files import known, read_flow, read_image
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split

SPLITS = ("train", "val", "all")
SINTEL_VAL = ("ambush_2", "ambush_6", "bamboo_2", "cave_4", "market_6", "temple_2")
"""Scenes of Sintel that are held out, as in much of the literature: 225 of its 1,041 pairs."""
KITTI_NUM_TRAIN = 160
CHAIRS_LIST = "FlyingChairs_train_val.txt"


class PairFiles(NamedTuple):
    """The files of a pair; `invalid` is a picture, not black where flow is invalid."""

    first: Path
    second: Path
    flow: Path
    invalid: Path | None = None


class FolderPairs:
    """Pairs, each read from its files: `{"frames", "flow", "valid"}`.

    Args:
        pairs: files, in the order of the pairs.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, pairs: Sequence[PairFiles]):
        self.pairs = tuple(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        files = self.pairs[index]
        first, second = read_image(files.first), read_image(files.second)
        flow, valid = read_flow(files.flow)
        if not first.shape[:2] == second.shape[:2] == valid.shape:
            raise DatasetError(
                f"{files.first}, {files.second} and {files.flow} have different sizes: "
                f"{first.shape[:2]}, {second.shape[:2]} and {valid.shape}; get them again"
            )
        if files.invalid is not None:
            invalid = cv2.cvtColor(read_image(files.invalid), cv2.COLOR_RGB2GRAY) > 0
            if invalid.shape != valid.shape:
                raise DatasetError(
                    f"{files.invalid} is of size {invalid.shape}, not {valid.shape} as its frame; "
                    "get it again"
                )
            flow, valid = known(flow, ~invalid)
        return {"frames": np.stack([first, second]), "flow": flow, "valid": valid}


def open_folder(dataset: str, data_dir: str, split: str, frame_pass: str) -> FolderPairs:
    """A split of a dataset in a folder.

    Args:
        dataset: a key of `READERS`.
        data_dir: its folder.
        split: "train", "val" or "all".
        frame_pass: "clean" or "final", of those that have both.

    Raises:
        DatasetError: a folder or file is missing, or there is no pair of the split.
    """
    check_split(split, SPLITS)
    root = Path(os.path.expanduser(data_dir))
    pairs = list(READERS[dataset](root, split, frame_pass))
    if not pairs:
        raise DatasetError(
            f"{root} has no pair of split '{split}' of '{dataset}'; expected the folder with "
            f"{_LAYOUTS[dataset]}: name it in --config.data.data_dir"
        )
    return FolderPairs(pairs)


def _sintel(root: Path, split: str, frame_pass: str) -> Iterator[PairFiles]:
    """ROOT/training/{clean,final,flow,invalid}/SCENE/frame_0001.{png,flo}.

    'val' are the scenes `SINTEL_VAL`. Without the folder `invalid` all flow is valid.
    """
    training = root / "training"
    frames = _Files(training / frame_pass, "sintel")
    flows = _Files(training / "flow", "sintel")
    invalid = _Files(training / "invalid", "sintel") if (training / "invalid").exists() else None
    for scene in flows.names(""):
        if not _chosen(split, held_out=scene in SINTEL_VAL):
            continue
        for number in flows.numbers(scene, r"frame_(\d{4})\.flo"):
            name = f"frame_{number:04}"
            yield PairFiles(
                frames.file(scene, f"{name}.png"),
                frames.file(scene, f"frame_{number + 1:04}.png"),
                flows.file(scene, f"{name}.flo"),
                invalid.file(scene, f"{name}.png") if invalid else None,
            )


def _kitti(root: Path, split: str, frame_pass: str) -> Iterator[PairFiles]:
    """ROOT/training/image_2/000000_{10,11}.png and flow_occ/000000_10.png.

    'train' are the pairs 0 to 159, 'val' the pairs 160 to 199. Flow is that of all pixels, also of
    those that disappear.
    """
    frames = _Files(root / "training" / "image_2", "kitti2015")
    flows = _Files(root / "training" / "flow_occ", "kitti2015")
    for number in flows.numbers("", r"(\d{6})_10\.png"):
        if _chosen(split, held_out=number >= KITTI_NUM_TRAIN):
            first, second = f"{number:06}_10.png", f"{number:06}_11.png"
            yield PairFiles(frames.file("", first), frames.file("", second), flows.file("", first))


def _flying_chairs(root: Path, split: str, frame_pass: str) -> Iterator[PairFiles]:
    """ROOT/data/00001_{img1.ppm,img2.ppm,flow.flo}.

    FlyingChairs_train_val.txt, in ROOT or ROOT/data, has a line for each pair: 1 'train', 2 'val'.
    """
    files = _Files(root / "data", "flying_chairs")
    numbers = files.numbers("", r"(\d{5})_flow\.flo")
    marks = None if split == "all" else _chairs_marks(root, numbers)
    for number in numbers:
        if marks is None or _chosen(split, held_out=marks[number - 1] == "2"):
            name = f"{number:05}"
            yield PairFiles(
                files.file("", f"{name}_img1.ppm"),
                files.file("", f"{name}_img2.ppm"),
                files.file("", f"{name}_flow.flo"),
            )


def _chairs_marks(root: Path, numbers: list[int]) -> list[str]:
    paths = [root / CHAIRS_LIST, root / "data" / CHAIRS_LIST]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise DatasetError(
            f"{paths[0]} is not there; it tells which pairs are of which split and is fetched "
            "apart from FlyingChairs; or take split 'all'"
        )
    marks = found[0].read_text(encoding="utf-8", errors="replace").split()
    if not set(marks) <= {"1", "2"} or max(numbers, default=0) > len(marks):
        raise DatasetError(
            f"{found[0]} should have a line of 1 or 2 for each of {max(numbers, default=0)} pairs, "
            f"but has {len(marks)} lines; fetch it again"
        )
    return marks


def _flying_things(root: Path, split: str, frame_pass: str) -> Iterator[PairFiles]:
    """ROOT/frames_{clean,final}pass/TRAIN/A/0000/{left,right}/0006.png, flow in both directions.

    Flow is ROOT/optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm, or
    into_past. 'val' is the folder TEST. At the ends of a scene there is flow, too, but no frame to
    pair it with.
    """
    frames = _Files(root / f"frames_{frame_pass}pass", "flying_things")
    flows = _Files(root / "optical_flow", "flying_things")
    parts = {"train": ("TRAIN",), "val": ("TEST",), "all": ("TRAIN", "TEST")}[split]
    for part in parts:
        scenes = [
            f"{part}/{letter}/{scene}"
            for letter in flows.names(part)
            for scene in flows.names(f"{part}/{letter}")
        ]
        for scene in scenes:
            for step, direction in ((1, "future"), (-1, "past")):
                for side in ("left", "right"):
                    yield from _things_pairs(frames, flows, scene, step, direction, side)


def _things_pairs(
    frames: "_Files", flows: "_Files", scene: str, step: int, direction: str, side: str
) -> Iterator[PairFiles]:
    folder, of_frames = f"{scene}/into_{direction}/{side}", f"{scene}/{side}"
    stem = f"OpticalFlowInto{direction.capitalize()}"
    end = f"{side[0].upper()}.pfm"
    there = frames.numbers(of_frames, r"(\d{4})\.png")
    for number in flows.numbers(folder, rf"{stem}_(\d{{4}})_{end}"):
        if not there or min(there) <= number + step <= max(there):
            yield PairFiles(
                frames.file(of_frames, f"{number:04}.png"),
                frames.file(of_frames, f"{number + step:04}.png"),
                flows.file(folder, f"{stem}_{number:04}_{end}"),
            )


def _chosen(split: str, *, held_out: bool) -> bool:
    return split == "all" or (split == "val") == held_out


class _Files:
    """Names below a folder; each folder is listed once.

    Raises:
        DatasetError: by each method, for what is not there.
    """

    def __init__(self, root: Path, dataset: str):
        self._root, self._dataset = root, dataset
        self._listed: dict[str, frozenset[str]] = {}

    def names(self, folder: str) -> list[str]:
        """What is in a folder, in order; what is hidden is not."""
        return sorted(self._names(folder))

    def numbers(self, folder: str, pattern: str) -> list[int]:
        """The numbers in names of a pattern with one group, in order."""
        matches = (re.fullmatch(pattern, name) for name in self._names(folder))
        return sorted(int(match[1]) for match in matches if match)

    def file(self, folder: str, name: str) -> Path:
        """A file that is there."""
        path = self._root / folder / name
        if name not in self._names(folder):
            raise DatasetError(f"{path} is not there; unpack '{self._dataset}' again")
        return path

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            path = self._root / folder
            try:
                names = os.listdir(path)
            except OSError as error:
                raise DatasetError(
                    f"{path} cannot be listed ({error.strerror}): data_dir is to be the folder of "
                    f"'{self._dataset}' with {_LAYOUTS[self._dataset]}"
                ) from error
            self._listed[folder] = frozenset(n for n in names if not n.startswith("."))
        return self._listed[folder]


READERS: dict[str, Callable[[Path, str, str], Iterator[PairFiles]]] = {
    "sintel": _sintel,
    "kitti2015": _kitti,
    "flying_chairs": _flying_chairs,
    "flying_things": _flying_things,
}
"""Lists the files of a split: `(root, split, frame_pass)`."""
_LAYOUTS = {
    "sintel": "training/clean, training/final and training/flow in it",
    "kitti2015": "training/image_2 and training/flow_occ in it",
    "flying_chairs": "data/00001_img1.ppm and the like in it",
    "flying_things": "frames_cleanpass or frames_finalpass, and optical_flow in it",
}
