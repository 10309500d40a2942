"""The tasks of `perceiver_jax.run` that write pictures and videos: flow and reconstruction."""

import argparse
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.command import add_source_arguments
from perceiver_jax.errors import UserError

WRITTEN = ".mp4"
"""Ending of videos that are written."""
FLOWS = (".flo", ".npy", ".png", ".pfm")
"""Endings of files of flow; a PNG is a coloured picture, not KITTI's."""


def optical_flow(options: argparse.Namespace) -> None:
    """Writes the flow between two pictures, or between each and the next of a folder or video."""
    from perceiver_jax.pipelines.optical_flow import OpticalFlowEstimation
    from perceiver_jax.pretrained import open_source

    pairs = open_pairs(options.input)
    check_not_read(options.out, options.input)
    write = writer(options.out, pairs, side_by_side=options.side_by_side)
    estimate = OpticalFlowEstimation(
        open_source(options.source, options.step),
        batch_size=options.batch_size,
        min_overlap=options.min_overlap,
    )
    seen: list[np.ndarray] = []

    def remembered() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first, second in pairs:
            seen.append(first)
            yield first, second

    flows = with_progress(estimate(remembered()), pairs.count)
    write((seen.pop(0), flow) for flow in flows)
    print(options.out)


def evaluate_flow(options: argparse.Namespace) -> None:
    """Prints the errors of a model over the whole pictures of a dataset."""
    from perceiver_jax.data import FlowDataConfig
    from perceiver_jax.data.flow import open_split
    from perceiver_jax.pipelines.flow_evaluation import flow_errors
    from perceiver_jax.pipelines.optical_flow import OpticalFlowEstimation
    from perceiver_jax.pretrained import open_source

    if options.data_dir is None and options.dataset != "middlebury":
        raise UserError(f"'{options.dataset}' is a folder of yours; name it: --data-dir=DIR")
    config = FlowDataConfig(
        dataset=options.dataset, data_dir=options.data_dir, frame_pass=options.frame_pass
    )
    source = open_split(config, options.split)
    estimate = OpticalFlowEstimation(
        open_source(options.source, options.step), batch_size=options.batch_size
    )
    numbers = with_progress(iter(range(len(source))), len(source), "pairs")
    for name, value in flow_errors(estimate, source, numbers).items():
        unit = "px" if name.startswith("end_point") else "of the pixels"
        print(f"{name.replace('_', ' '):<28} {value:.4f} {unit}")


def reconstruct(options: argparse.Namespace) -> None:
    """Writes what a video autoencoder makes of a video, and prints what it takes it for."""
    from perceiver_jax.data.video import write_video
    from perceiver_jax.pipelines.video_reconstruction import VideoReconstruction
    from perceiver_jax.pretrained import open_source

    if options.out.suffix.lower() != WRITTEN:
        raise UserError(f"--out={options.out} does not end in {WRITTEN}, which is what is written")
    if options.out.resolve() == options.video.resolve():
        raise UserError(f"{options.out} is the video that is read; choose another name")
    pipeline = VideoReconstruction(open_source(options.source, options.step))
    check_length(options.video, options.start, options.num_clips, pipeline.clip_seconds)
    clips = list(
        with_progress(
            pipeline(
                options.video,
                start_s=options.start,
                num_clips=options.num_clips,
                top=options.top,
            ),
            options.num_clips,
            "clips",
        )
    )
    frames = (
        np.concatenate([seen, made], axis=1) if options.side_by_side else made
        for clip in clips
        for seen, made in zip(clip.seen, clip.frames, strict=True)
    )
    rates = pipeline.preprocessing
    sound = np.concatenate([clip.sound for clip in clips])
    write_video(options.out, frames, rates.frame_rate, sound, rates.sample_rate)
    print(options.out)
    for i, clip in enumerate(clips):
        print(f"clip {i + 1}" + ("" if clip.has_sound else ", which has no sound"))
        for label, probability in clip.guesses:
            print(f"  {probability:7.2%}  {label}")


def check_length(path: Path, start_s: float, num_clips: int, clip_seconds: float) -> None:
    """Raises a UserError where a video is shorter than the clips that are wanted of it."""
    from perceiver_jax.data.video import probe

    length = probe(path).seconds
    # A frame's time may be rounded.
    most = int((length - start_s) / clip_seconds + 0.05)
    if num_clips > max(most, 0):
        raise UserError(
            f"{path} is {length:.2f} s long; from --start={start_s:g} on that is enough for "
            f"{max(most, 0)} clips of {clip_seconds:.2f} s, not for --num-clips={num_clips}"
        )


class Pairs:
    """Pictures that follow each other, two at a time.

    Attributes:
        count: how many pairs there are, about; None where that is not known before.
        frame_rate: pictures a second of a video; None of files.
        names: of the first picture of each pair, of files; None of a video.
    """

    def __init__(
        self,
        frames: Callable[[], Iterable[np.ndarray]],
        *,
        count: int | None,
        frame_rate: float | None = None,
        names: Sequence[str] | None = None,
    ):
        self._frames = frames
        self.count, self.frame_rate, self.names = count, frame_rate, names

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return itertools.pairwise(self._frames())


def open_pairs(paths: Sequence[Path]) -> Pairs:
    """The pictures of two files, a folder or a video.

    Raises:
        UserError: they are none of these, or fewer than two.
    """
    for path in paths:
        if not path.exists():
            raise UserError(f"there is no file or folder {path}")
    if len(paths) == 1 and not paths[0].is_dir():
        return _of_video(paths[0])
    files = _pictures(paths[0]) if len(paths) == 1 else list(paths)
    if len(paths) > 2 or any(path.is_dir() for path in files):
        raise UserError(
            f"{', '.join(map(str, paths))}: flow is between two pictures, so give two, or one "
            "folder that all of them are in, or a video"
        )
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        names = [file.name for file in files]
    return Pairs(lambda: read_pictures(files), count=len(files) - 1, names=names[:-1])


def read_pictures(files: Sequence[Path]) -> Iterator[np.ndarray]:
    """Pictures of one size, one after the other.

    Raises:
        UserError: one cannot be read, or is of another size than the first.
    """
    from perceiver_jax.data.flow import read_image

    size = None
    for file in files:
        picture = read_image(file)
        size = size or picture.shape[:2]
        if picture.shape[:2] != size:
            raise UserError(
                f"{file} is of {picture.shape[0]}×{picture.shape[1]}, {files[0]} of "
                f"{size[0]}×{size[1]} (height × width); flow is between pictures of one size, so "
                "resize or crop it"
            )
        yield picture


def check_not_read(out: Path, paths: Sequence[Path]) -> None:
    """Raises a UserError where what is written could replace what is read."""
    folders = [path if path.is_dir() else path.parent for path in paths]
    if out.resolve() in [path.resolve() for path in (*paths, *folders)]:
        raise UserError(
            f"--out={out} is, or holds, what is read, which would be overwritten; choose another"
        )


def _pictures(folder: Path) -> list[Path]:
    from perceiver_jax.pipelines.image_classification import image_files

    files = sorted(image_files([folder]), key=numbered)
    if len(files) < 2:
        raise UserError(f"the folder {folder} has one picture; flow takes two or more")
    return files


def numbered(file: Path) -> list[tuple[int, str]]:
    """Sorts 2.png before 10.png."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", file.name)
    ]


def _of_video(path: Path) -> Pairs:
    from perceiver_jax.data.video import iterate_frames, probe
    from perceiver_jax.data.video.folders import SUFFIXES

    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path} alone gives no flow; give two pictures, a folder of pictures, or a video "
            f"({', '.join(SUFFIXES)})"
        )
    info = probe(path)
    # A file need not tell its frame rate.
    count = round(info.seconds * info.frame_rate) - 1 if info.frame_rate else None
    if count is not None and count < 1:
        raise UserError(f"the video {path} has one frame; flow takes two or more")
    return Pairs(
        lambda: (frame for _, frame in iterate_frames(path)),
        count=count,
        frame_rate=info.frame_rate or None,
    )


Shown = Iterable[tuple[np.ndarray, np.ndarray]]
"""First pictures [H, W, 3] uint8, and flows [H, W, 2]."""


def writer(out: Path, pairs: Pairs, *, side_by_side: bool) -> Callable[[Shown], None]:
    """What writes flows to a file, to files in a folder, or to a video.

    Raises:
        UserError: the ending of `out` does not go with that many flows, or with pictures beside.
    """
    ending = out.suffix.lower()
    if ending == WRITTEN:
        if pairs.names is not None and len(pairs.names) < 2:
            raise UserError(
                f"one flow is no video; write --out={out.with_suffix('.png')}, or .flo, or .npy"
            )
        return lambda shown: _write_video(out, shown, pairs.frame_rate or 25.0, side_by_side)
    if side_by_side and ending not in (".png", ""):
        raise UserError(
            f"--side-by-side shows colours, and {out} holds numbers; write a .png or a video"
        )
    if ending in FLOWS:
        if pairs.names is None or len(pairs.names) > 1:
            raise UserError(
                f"{out} is one file, and there are many flows; name a folder, or a video such as "
                f"{out.with_suffix('.mp4')}"
            )
        return lambda shown: _write_one(out, *next(iter(shown)), side_by_side)
    if ending:
        raise UserError(
            f"--out={out} ends in none of {', '.join((*FLOWS, WRITTEN))}; a name without ending is "
            "a folder"
        )
    return lambda shown: _write_folder(out, shown, pairs.names, side_by_side)


def _write_one(path: Path, first: np.ndarray, flow: np.ndarray, side_by_side: bool) -> None:
    from perceiver_jax.data.flow import write_flow

    if path.suffix.lower() == ".png":
        _write_picture(path, coloured(first, flow, side_by_side))
    else:
        write_flow(path, flow)


def _write_folder(
    folder: Path, shown: Shown, names: Sequence[str] | None, side_by_side: bool
) -> None:
    """A `.flo` and a coloured `.png` of each flow."""
    from perceiver_jax.data.flow import write_flow

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made: {error.strerror}") from error
    numbers = (f"{i:06d}" for i in itertools.count())
    for name, (first, flow) in zip(names or numbers, shown, strict=False):
        write_flow(folder / f"{name}.flo", flow)
        _write_picture(folder / f"{name}.png", coloured(first, flow, side_by_side))


def _write_picture(path: Path, picture: np.ndarray) -> None:
    import cv2

    from perceiver_jax.whole_files import write_whole

    _, encoded = cv2.imencode(".png", picture[..., ::-1])
    try:
        write_whole(path, encoded.tobytes())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_video(path: Path, shown: Shown, frame_rate: float, side_by_side: bool) -> None:
    from perceiver_jax.data.video import write_video

    def pictures() -> Iterator[np.ndarray]:
        longest = 1.0
        for first, flow in shown:
            # Colours that mean something else in each frame would flicker.
            longest = max(longest, float(np.linalg.norm(flow, axis=-1).max()))
            yield coloured(first, flow, side_by_side, longest)

    write_video(path, pictures(), frame_rate)


def coloured(
    first: np.ndarray, flow: np.ndarray, side_by_side: bool, max_flow: float | None = None
) -> np.ndarray:
    """[H, W, 3] colours of a flow, or [H, 2W, 3] the picture and, beside it, those.

    The fullest colours are of flow of `max_flow` pixels, or of the longest that there is.
    """
    from perceiver_jax.flow_colors import flow_to_image

    colours = flow_to_image(flow, max_flow)
    return np.concatenate([first, colours], axis=1) if side_by_side else colours


def with_progress(items: Iterator[Any], total: int | None, what: str = "flow") -> Iterator[Any]:
    """The items, with a bar that shows how many there were."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(items, description=what, total=total, transient=True, console=console))


def add_optical_flow(
    tasks: Any, positive: Callable[[str], int], not_negative: Callable[[str], int]
) -> None:
    """The task `optical-flow` of a command line."""
    task = tasks.add_parser(
        "optical-flow", help="two or more pictures, or a video, to optical flow"
    )
    add_source_arguments(task, "krasserm:folder")
    task.add_argument(
        "--out",
        type=Path,
        required=True,
        help="file to write: .flo, .npy or .pfm (numbers), .png or .mp4 (colours); or a folder",
    )
    task.add_argument(
        "--side-by-side", action="store_true", help="show the pictures beside the colours"
    )
    task.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        help="tiles that the model sees at once (default: 1)",
    )
    task.add_argument(
        "--min-overlap",
        type=not_negative,
        help="pixels that tiles share at least, 0 or more and less than their sides (default: 20, "
        "of small models less)",
    )
    task.add_argument(
        "input", type=Path, nargs="+", help="two pictures, a folder of pictures, or a video"
    )
    task.set_defaults(run=optical_flow)


def add_evaluate_flow(tasks: Any, positive: Callable[[str], int]) -> None:
    """The task `evaluate-flow` of a command line."""
    task = tasks.add_parser(
        "evaluate-flow", help="errors of optical flow over a dataset's whole pictures"
    )
    add_source_arguments(task, "krasserm:folder")
    task.add_argument(
        "--dataset",
        required=True,
        choices=("sintel", "kitti2015", "flying_chairs", "flying_things", "middlebury"),
        help="layout of the folder",
    )
    task.add_argument("--data-dir", help="the dataset's folder; of middlebury, of fetched datasets")
    task.add_argument("--split", default="val", help="train, val or all (default: val)")
    task.add_argument(
        "--pass",
        dest="frame_pass",
        choices=("clean", "final"),
        default="clean",
        help="rendering of sintel and flying_things (default: clean)",
    )
    task.add_argument(
        "--batch-size", type=positive, default=1, help="tiles that the model sees at once"
    )
    task.set_defaults(run=evaluate_flow)


def add_reconstruct(tasks: Any, positive: Callable[[str], int]) -> None:
    """The task `reconstruct` of a command line."""
    task = tasks.add_parser(
        "reconstruct", help="a video with sound through an autoencoder and back"
    )
    add_source_arguments(task, "deepmind:weights.pystate")
    task.add_argument("--out", type=Path, required=True, help="MP4 file to write")
    task.add_argument(
        "--start", type=float, default=0.0, help="where the first clip begins, in seconds"
    )
    task.add_argument(
        "--num-clips",
        type=positive,
        default=1,
        help="clips, one after the other; how long one is depends on the model (default: 1)",
    )
    task.add_argument(
        "--side-by-side", action="store_true", help="show the frames beside their reconstruction"
    )
    task.add_argument("--top", type=positive, default=5, help="how many classes (default: 5)")
    task.add_argument("video", type=Path, help="video file")
    task.set_defaults(run=reconstruct)
