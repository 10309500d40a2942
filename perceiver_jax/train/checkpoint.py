"""Checkpoints of a run, with Orbax: `workdir/checkpoints/<step>/`.

- A checkpoint holds `model` (parameters and statistics by path), `optimizer`, `data` (where the
  batches go on) and `config`, each readable without the others.
- A checkpoint appears under its name only when it is whole; what a killed run left half-written is
  removed by the next.
- The newest ones are kept, and the best ones by a held-out metric.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from perceiver_jax.config import setting
from perceiver_jax.errors import UserError
from perceiver_jax.params import FORMAT_VERSION
from perceiver_jax.train.state import TrainState
from perceiver_jax.typing import Params

ITEMS = ("model", "optimizer", "data", "config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run is saved, and what is kept."""

    every: int = setting(1000, "steps between checkpoints; the last step is always saved")
    keep_last: int = setting(1, "newest checkpoints to keep")
    keep_best: int = setting(1, "best checkpoints to keep besides")
    best_metric: str = setting("accuracy", "held-out metric that the best are chosen by")
    best_mode: Literal["max", "min"] = setting("max", "whether more or less of it is better")

    def __post_init__(self):
        if self.every < 1 or self.keep_last < 1 or self.keep_best < 0:
            raise ValueError(
                f"every={self.every} and keep_last={self.keep_last} must be 1 or more, keep_best="
                f"{self.keep_best} 0 or more"
            )

    def check(self, metric_names: Collection[str]) -> None:
        """Raises a UserError where the best are to be chosen by a metric that there is not."""
        if self.keep_best and self.best_metric not in metric_names:
            raise UserError(
                f"checkpoint.best_metric='{self.best_metric}' is no held-out metric of this run; "
                f"there are {', '.join(metric_names)}"
            )


class Newest(NamedTuple):
    """The newest whole checkpoint of a workdir."""

    step: int
    config: Mapping[str, Any]
    """resolved config that it was trained with"""


def newest(workdir: Path) -> Newest | None:
    """What a run in this workdir would go on from; None if it would begin.

    Raises:
        UserError: the checkpoint is damaged, or of another version.
    """
    if not (workdir / "checkpoints").is_dir():
        return None
    checkpoints = Checkpoints(workdir)
    try:
        step = checkpoints.latest()
        return None if step is None else Newest(step, checkpoints.config(step))
    finally:
        checkpoints.close()


class Checkpoints:
    """The checkpoints of a working directory.

    Args:
        workdir: of the run.
        config: None opens them for reading only.
    """

    def __init__(self, workdir: Path, config: CheckpointConfig | None = None):
        self.directory = workdir.absolute() / "checkpoints"
        if config is None:
            if not self.directory.is_dir():
                raise UserError(f"{workdir} is no workdir of a run: it has no folder checkpoints")
            options = ocp.CheckpointManagerOptions(create=False)
        else:
            options = ocp.CheckpointManagerOptions(
                cleanup_tmp_directories=True,
                best_fn=lambda metrics: metrics[config.best_metric],
                best_mode=config.best_mode,
                preservation_policy=_preservation(config),
            )
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_names=ITEMS, item_handlers=_handlers()
        )

    def latest(self) -> int | None:
        """The newest whole checkpoint's step, or None."""
        return self._manager.latest_step()

    def find(self, step: int | Literal["best"] | None) -> int:
        """That checkpoint's step, the newest one's for None, or the best one's.

        Raises:
            UserError: it is not there.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise UserError(
                f"there is no checkpoint in {self.directory}; is the workdir right, and has its "
                "run saved one yet?"
            )
        if step == "best":
            return self._best(steps)
        if step is not None and step not in steps:
            raise UserError(f"there is no checkpoint {step} in {self.directory}; there are {steps}")
        return steps[-1] if step is None else step

    def _best(self, steps: list[int]) -> int:
        """The best by the held-out metric that the run was configured with."""
        chosen = self.config(steps[-1])["checkpoint"]
        sign = 1.0 if chosen["best_mode"] == "max" else -1.0

        def score(step: int) -> float:
            metrics: Any = self._manager.metrics(step)
            return sign * metrics[chosen["best_metric"]]

        return max(steps, key=score)

    def save(
        self,
        state: TrainState,
        *,
        step: int,
        data: Mapping[str, Any],
        config: Mapping[str, Any],
        metrics: Mapping[str, float],
    ) -> None:
        """Starts saving; what the state holds now is what is saved.

        Args:
            state: after `step` steps.
            step: number of the checkpoint.
            data: position of the data iterator after those steps.
            config: the resolved config.
            metrics: held-out metrics at this step.
        """
        model = {"params": state.params, "stats": state.stats}
        optimizer = {"step": state.step, "state": state.opt_state}
        arguments = ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            optimizer=ocp.args.StandardSave(optimizer),
            data=ocp.args.JsonSave({"position": data, "process_count": jax.process_count()}),
            config=ocp.args.JsonSave({"format_version": FORMAT_VERSION, "config": config}),
        )
        self._manager.save(step, args=arguments, metrics=dict(metrics))

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, Mapping[str, Any]]:
        """Reads a checkpoint into the places of an abstract state, whatever mesh wrote it.

        Returns:
            The state, and the position of the data iterator.

        Raises:
            UserError: it has another format, or was written by another number of processes, whose
                data order differs.
        """
        self.config(step)  # refuses another format, whose paths would not be found
        restored = self._read(
            step,
            model=ocp.args.StandardRestore({"params": like.params, "stats": like.stats}),
            optimizer=ocp.args.StandardRestore({"step": like.step, "state": like.opt_state}),
            data=ocp.args.JsonRestore(),
        )
        data = restored["data"]
        if data["process_count"] != jax.process_count():
            raise UserError(
                f"checkpoint {step} in {self.directory} was written by {data['process_count']} "
                f"processes, this run has {jax.process_count()}: each would read other examples "
                "than before; start as many, or start a new run in another workdir"
            )
        state = TrainState(
            step=restored["optimizer"]["step"],
            params=restored["model"]["params"],
            stats=restored["model"]["stats"],
            opt_state=restored["optimizer"]["state"],
        )
        return state, data["position"]

    def restore_model(self, step: int, like: tuple[Params, Params]) -> tuple[Params, Params]:
        """Reads parameters and statistics alone."""
        params, stats = like
        restored = self._read(
            step, model=ocp.args.StandardRestore({"params": params, "stats": stats})
        )
        return restored["model"]["params"], restored["model"]["stats"]

    def config(self, step: int) -> Mapping[str, Any]:
        """The resolved config that a checkpoint was trained with."""
        saved = self._read(step, config=ocp.args.JsonRestore())["config"]
        if saved["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"checkpoint {step} in {self.directory} has parameter format "
                f"{saved['format_version']}, this library reads {FORMAT_VERSION}; use the version "
                "of the library that wrote it"
            )
        return saved["config"]

    def _read(self, step: int, **items: Any) -> Any:
        """Restores items of a checkpoint, or raises a UserError that says what to do instead."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore raise many types for damaged files
            reason = str(error).strip().splitlines() or [repr(error)]
            raise UserError(
                f"checkpoint {step} in {self.directory} cannot be read: {reason[0][:300]}\n"
                f"Remove the folder {self.directory / str(step)} to go on from an earlier one."
            ) from error

    def wait(self) -> None:
        """Waits until what is being saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and releases resources."""
        self._manager.close()


def _handlers() -> dict[str, Any]:
    return {
        "model": ocp.StandardCheckpointHandler(),
        "optimizer": ocp.StandardCheckpointHandler(),
        "data": ocp.JsonCheckpointHandler(),
        "config": ocp.JsonCheckpointHandler(),
    }


def _preservation(config: CheckpointConfig) -> Any:
    last = checkpoint_managers.LatestN(config.keep_last)
    if not config.keep_best:
        return last
    best = checkpoint_managers.BestN(
        get_metric_fn=lambda metrics: metrics[config.best_metric],
        reverse=config.best_mode == "min",
        n=config.keep_best,
        keep_checkpoints_without_metrics=False,
    )
    return checkpoint_managers.AnyPreservationPolicy([last, best])
