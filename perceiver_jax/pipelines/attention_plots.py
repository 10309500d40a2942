"""Heat over a picture: one large and many small, as a figure, and where figures are written."""

import io
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perceiver_jax.errors import UserError

WRITTEN = (".png", ".pdf", ".svg")
"""Endings of figures that are written."""
COLOURS, OPACITY = "inferno", 0.65
GREYS = (60, 215)
"""Black and white beneath heat, whose colours differ less on them."""
BRIGHTEST = 0.2
"""Share of all weight that lies on the cells of the brightest colour: of many cells, a few shall
not leave all others dark."""
COLUMNS = 6
WIDTH = 9.6
"""Of a figure, in inches."""
DOTS_PER_INCH = 160
"""Each of 224 pixels has a dot of its own in the small pictures."""
LETTERS = 90
"""Of a line of its title."""


class Heat(NamedTuple):
    """Weights over a picture.

    Attributes:
        title: what they are of.
        weights: [h, w], summing to 1; the picture is cut into a grid of so many cells.
    """

    title: str
    weights: np.ndarray


def heat_figure(
    picture: np.ndarray, whole: Heat, parts: Sequence[Heat], *, title: str, caption: str
) -> Any:
    """Draws a picture, heat over it, and below the parts that the heat is made of.

    Weights are shown in multiples of the even weight: 1 is what every cell would have if all had
    the same. Each heat has a scale of its own, from 0 to the number above it, or beside it.

    Args:
        picture: [H, W, 1 or 3] uint8.
        whole: drawn large, with a bar of its colours.
        parts: drawn small.
        title: of the figure.
        caption: of the parts.

    Returns:
        A Matplotlib figure; it needs no display.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(len(parts), 4))
    rows = max(1, math.ceil(len(parts) / columns))
    tallness = picture.shape[0] / picture.shape[1]
    above_height, row_height = 2.9 * tallness + 0.8, WIDTH / columns * tallness + 0.3
    heights = (above_height, row_height * rows + 0.3)
    figure: Any = Figure(figsize=(WIDTH, sum(heights) + 0.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)

    # A file name may have dollar signs, which are not those of a formula.
    above.suptitle(textwrap.fill(title, LETTERS), fontsize=12, parse_math=False)
    seen, heated = above.subplots(1, 2)
    _show(seen, picture, "what the model saw")
    drawn, most = _heat(heated, picture, whole.weights)
    heated.set_title(f"{whole.title}\nin multiples of the even weight", fontsize=10)
    beyond = "max" if drawn.get_array().max() > most else "neither"
    bar = above.colorbar(drawn, ax=[seen, heated], fraction=0.03, pad=0.03, extend=beyond)
    bar.ax.tick_params(labelsize=9)

    below.suptitle(caption, fontsize=10)
    for axes in below.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, part in zip(below.axes, parts, strict=False):
        _, most = _heat(axes, picture, part.weights)
        axes.set_title(f"{part.title}\n0 to {_times(most)}", fontsize=9)
    return figure


def brightest(weights: np.ndarray) -> float:
    """The greatest weight b such that cells of b or more have `BRIGHTEST` of all weight."""
    falling = np.sort(weights, axis=None)[::-1]
    return float(falling[np.searchsorted(falling.cumsum(), BRIGHTEST * falling.sum())])


def _show(axes: Any, picture: np.ndarray, title: str = "") -> None:
    """A picture; one of a single channel is grey."""
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    axes.imshow(picture)
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def _heat(axes: Any, picture: np.ndarray, weights: np.ndarray) -> tuple[Any, float]:
    """Heat over the picture in weak grey; returns what was drawn, and the number of its end."""
    times = weights * weights.size
    most = brightest(times)
    grey = np.interp(picture.mean(axis=-1, keepdims=True), (0, 255), GREYS)
    _show(axes, grey.astype(np.uint8))
    height, width = picture.shape[:2]
    drawn = axes.imshow(
        times,
        cmap=COLOURS,
        vmin=0,
        vmax=most,
        alpha=OPACITY,
        interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
    return drawn, most


def _times(number: float) -> str:
    """A multiple, with two digits or all before the point."""
    return f"{number:,.0f}×" if number >= 9.95 else f"{number:.1f}×"


def figure_files(out: Path, images: Sequence[Path]) -> list[Path]:
    """The files that figures of images are written to; a folder is made if it is not there.

    Args:
        out: a name that ends as a figure does, for one image; or a folder, which gets a PNG of
            each image, named after it.
        images: image files.

    Raises:
        UserError: it is neither, or of several images, or has no folder to lie in, or a figure
            would replace an image or another figure.
    """
    if not out.suffix or out.is_dir():
        files = _in_folder(out, images)
    elif out.suffix.lower() not in WRITTEN:
        raise UserError(
            f"--attention={out} ends in none of {', '.join(WRITTEN)}; a name without ending is a "
            "folder"
        )
    elif len(images) > 1:
        raise UserError(
            f"--attention={out} is one file, and there are {len(images):,} images; name a folder, "
            f"such as --attention={out.with_suffix('')}"
        )
    elif not out.parent.is_dir():
        raise UserError(f"--attention={out} lies in a folder that is not there; make {out.parent}")
    else:
        files = [out]
    replaced = {file.resolve() for file in files} & {image.resolve() for image in images}
    if replaced:
        raise UserError(
            f"--attention={out} would replace the image {min(replaced)}; choose another name"
        )
    return files


def _in_folder(folder: Path, images: Sequence[Path]) -> list[Path]:
    names = [image.stem for image in images]
    if len(set(names)) < len(names):
        names = [image.name for image in images]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"{times} images are named {name}, and their figures would replace each other; give "
            "them one after the other, each with a folder of its own"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made: {error.strerror}") from error
    return [folder / f"{name}.png" for name in names]


def write_figure(figure: Any, path: Path) -> None:
    """Writes a figure in the format that the name ends in.

    Raises:
        UserError: the file cannot be written.
    """
    from perceiver_jax.whole_files import write_whole

    contents = io.BytesIO()
    figure.savefig(contents, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)
    try:
        write_whole(path, contents.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
