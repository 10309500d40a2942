"""Metrics over time: added up as (sum, weight), written as JSON lines and TensorBoard events.

- Only the first process writes.
- After a resume rows of steps that will be repeated are taken out, so each step is logged once.
- The JSON-lines file is flushed row by row, so a killed run loses nothing that was logged; the
  events follow within a second.
"""

import errno
import io
import json
import os
import wave
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from perceiver_jax.typing import Sums


def average(batches: Iterable[Sums]) -> dict[str, float]:
    """Total sums over total weights, or the values of what else was added up, in float64."""
    totals: Sums = {}
    for sums in batches:
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(sums))
        totals = {
            name: jax.tree.map(np.add, totals[name], new) if name in totals else new
            for name, new in sums.items()
        }
    return {
        name: float(np.divide(*total) if isinstance(total, tuple) else total.value())
        for name, total in totals.items()
    }


class MetricsWriter:
    """Writes scalars, pictures, texts and sounds of a run.

    Args:
        workdir: `metrics.jsonl` and `tensorboard/` are made in it.
        first_step: rows of later steps, left by a run that was killed, are taken out.
    """

    def __init__(self, workdir: Path, *, first_step: int):
        self.path = workdir / "metrics.jsonl"
        self._active = jax.process_index() == 0
        if not self._active:
            return
        from tensorboardX import SummaryWriter

        _keep_rows(self.path, up_to=first_step)
        self._file = self.path.open("a")
        # TensorBoard hides whatever an earlier event file has from this step on.
        self._events = SummaryWriter(
            str(workdir / "tensorboard"),
            purge_step=first_step + 1,
            # Whoever logs never waits for the thread that writes, which may have ended.
            max_queue=0,
            flush_secs=1,
            write_to_disk=True,
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One row of metrics."""
        if not self._active:
            return
        self._check_writing()
        row = {"step": step} | {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, float(value), step)

    def media(
        self,
        step: int,
        images: Mapping[str, np.ndarray],
        texts: Mapping[str, str],
        sounds: Mapping[str, tuple[np.ndarray, int]] = MappingProxyType({}),
    ) -> None:
        """Pictures ([H, W, 3] uint8), texts and sounds (see `Media`), for TensorBoard."""
        if not self._active:
            return
        self._check_writing()
        for name, image in images.items():
            self._events.add_image(f"eval/{name}", image, step, dataformats="HWC")
        for name, text in texts.items():
            self._events.add_text(f"eval/{name}", text, step)
        events: Any = self._events.file_writer
        for name, (samples, rate) in sounds.items():
            events.add_summary(_audio(f"eval/{name}", samples, rate), step)

    def hyperparameters(
        self, step: int, config: Mapping[str, Any], results: Mapping[str, float]
    ) -> None:
        """The flattened config beside final results, for TensorBoard's HPARAMS page."""
        if self._active:
            flat = dict(_flatten(config))
            self._events.add_hparams(flat, dict(results), name="hyperparameters", global_step=step)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        """Flushes and closes both files."""
        if not self._active:
            return
        self._file.close()
        if self._writes():
            self._events.close()
        else:
            # Nobody reads the queue any more, and the end of the process would wait for that.
            self._event_file()._event_queue.cancel_join_thread()

    def _check_writing(self) -> None:
        """Raises an OSError where events are no longer written."""
        if not self._writes():
            # The thread told its own error. There is one that is likely.
            folder = str(self.path.parent / "tensorboard")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)

    def _writes(self) -> bool:
        return self._event_file()._worker.is_alive()

    def _event_file(self) -> Any:
        writer: Any = self._events.file_writer
        return writer.event_writer


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _keep_rows(path: Path, *, up_to: int) -> None:
    kept = [row for row in read_rows(path) if row["step"] <= up_to]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    os.replace(temporary, path)


def _audio(tag: str, samples: np.ndarray, rate: int) -> Any:
    """A summary with [n] samples in [-1, 1] as a WAV file.

    Written here as `SummaryWriter.add_audio` needs one more package.
    """
    from tensorboardX.proto import summary_pb2

    messages: Any = summary_pb2
    contents = io.BytesIO()
    with wave.open(contents, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(samples.clip(-1.0, 1.0) * 32_767).astype("<i2").tobytes())
    audio = messages.Summary.Audio(
        sample_rate=rate,
        num_channels=1,
        length_frames=len(samples),
        encoded_audio_string=contents.getvalue(),
        content_type="audio/wav",
    )
    return messages.Summary(value=[messages.Summary.Value(tag=tag, audio=audio)])


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            yield prefix + name, value if plain else str(value)
