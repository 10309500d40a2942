"""Pictures: curves of a run, and a grid of predictions. Matplotlib, without a display."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"train": "#c44e52", "eval": "#dd8452", "accuracy": "#4c72b0"}
_LETTERS, _LINES = 18, 3
"""What fits above a picture: letters of a line, and lines of its predicted and real class each."""


def plot_curves(rows: Sequence[Mapping[str, Any]], directory: Path) -> list[Path]:
    """Draws train loss, eval loss and eval accuracy over steps.

    Args:
        rows: rows of `metrics.jsonl`.
        directory: where the PNG files go; made if it is not there.

    Returns:
        The files written; a curve without a value is left out.
    """
    curves = {
        "train_loss.png": ("train/loss", "training loss", COLOURS["train"]),
        "eval_loss.png": ("eval/loss", "held-out loss", COLOURS["eval"]),
        "eval_accuracy.png": ("eval/accuracy", "held-out accuracy", COLOURS["accuracy"]),
    }
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for file, (metric, label, colour) in curves.items():
        points = [(row["step"], row[metric]) for row in rows if metric in row]
        if points:
            _plot_curve(points, label, colour, directory / file)
            written.append(directory / file)
    return written


def _plot_curve(points: list[tuple[int, float]], label: str, colour: str, path: Path) -> None:
    """One metric over steps; many rows are drawn faintly, with their running mean over them."""
    figure = _figure(6.4, 4.0)
    axes = figure.subplots()
    steps, values = (np.array(column) for column in zip(*points, strict=True))
    if len(points) < 40:
        axes.plot(steps, values, color=colour, linewidth=1.6, marker="o", markersize=4)
        said = f"{values[-1]:.4g}"
    else:
        width = len(points) // 20
        means = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.35)
        axes.plot(steps[width - 1 :], means, color=colour, linewidth=1.8)
        said = f"{means[-1]:.4g} (mean of {width} rows)"
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.set_title(f"{label}: {said} at step {steps[-1]:,}", loc="left", fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def prediction_grid(
    images: Sequence[np.ndarray], predicted: Sequence[str], real: Sequence[str]
) -> np.ndarray:
    """Draws images with predicted and real class; wrong ones in red, long names cut off.

    Args:
        images: [H, W, 1 or 3] uint8 each.
        predicted: class names.
        real: class names.

    Returns:
        [height, width, 3] uint8 picture.
    """
    columns = min(8, len(images))
    rows = math.ceil(len(images) / columns)
    titles = [
        f"{_wrapped(f'predicted {guess}')}\n{_wrapped(f'real {truth}')}"
        for guess, truth in zip(predicted, real, strict=True)
    ]
    most_lines = max(title.count("\n") + 1 for title in titles)
    figure = _figure(1.5 * columns, (1.5 + 0.175 * most_lines) * rows)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for i, (axes, image) in enumerate(zip(figure.axes, images, strict=False)):
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        # In the middle of its place, where the layout puts it, it leaves too little for the title.
        axes.set_anchor("N")
        colour = "black" if predicted[i] == real[i] else "#c00000"
        axes.set_title(titles[i], fontsize=9, color=colour)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _wrapped(title: str) -> str:
    """A title on as many lines as fit above a picture."""
    return textwrap.fill(title, _LETTERS, max_lines=_LINES, placeholder=" …")


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Writes an [H, W, 3] uint8 picture as PNG."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])


def _figure(width: float, height: float) -> Any:
    """A figure in inches that needs no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
