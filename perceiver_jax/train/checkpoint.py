"""Checkpoints of a run, with Orbax: `workdir/checkpoints/<step>/`.

- A checkpoint holds `model` (parameters, or their averages, and statistics, by path), `optimizer`,
  `data` (where the batches of each process go on) and `config`, each readable without the others.
- A checkpoint appears under its name only when it is whole, and with the digests of its files; what
  a killed run left half-written is removed by the next.
- Files are compared with their digests before they are read. A run sets what is damaged aside, and
  goes on from the newest checkpoint that is not.
- The newest ones are kept, and the best ones by a held-out metric.
"""

import dataclasses
import itertools
import math
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from perceiver_jax.config import check_fields, from_dict, setting
from perceiver_jax.errors import UserError
from perceiver_jax.params import FORMAT_VERSION
from perceiver_jax.train import checkpoint_digests, hosts
from perceiver_jax.train.state import TrainState
from perceiver_jax.typing import Params

ITEMS = ("model", "optimizer", "data", "config")
OF_A_MODEL = ("model", "config")
"""Items that are read where nothing is trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run is saved, and what is kept."""

    every: int = setting(1000, "steps between checkpoints; the last step is always saved")
    keep_last: int = setting(2, "newest checkpoints to keep; two, in case that one is damaged")
    keep_best: int = setting(1, "best checkpoints to keep besides")
    best_metric: str = setting("accuracy", "held-out metric that the best are chosen by")
    best_mode: Literal["max", "min"] = setting("max", "whether more or less of it is better")

    def __post_init__(self):
        check_fields(self)
        if self.every < 1 or self.keep_last < 1 or self.keep_best < 0:
            raise ValueError(
                f"every={self.every} and keep_last={self.keep_last} must be 1 or more, keep_best="
                f"{self.keep_best} 0 or more"
            )

    def score(self, metrics: Mapping[str, float] | None) -> float:
        """What the best checkpoints have most of; minus infinity where there is no such number."""
        value = (metrics or {}).get(self.best_metric, math.nan)
        if math.isnan(value):
            return -math.inf
        return value if self.best_mode == "max" else -value

    def check(self, metric_names: Collection[str]) -> None:
        """Raises a UserError where the best are to be chosen by a metric that there is not."""
        if self.keep_best and self.best_metric not in metric_names:
            raise UserError(
                f"checkpoint.best_metric='{self.best_metric}' is no held-out metric of this run; "
                f"set --config.checkpoint.best_metric to one of {', '.join(metric_names)}"
            )


class Newest(NamedTuple):
    """The newest whole checkpoint of a workdir."""

    step: int
    config: Mapping[str, Any]
    """resolved config that it was trained with"""


def newest(workdir: Path) -> Newest | None:
    """What a run in this workdir goes on from; None if it begins.

    Newer checkpoints that are damaged are set aside under another name, and said so.

    Raises:
        UserError: there are checkpoints, and all are damaged; or the newest is of another version.
    """
    # Process 0 decides: others may look when it has begun to write already.
    if not hosts.from_first((workdir / "checkpoints").is_dir()):
        return None
    if not (workdir / "checkpoints").is_dir():
        raise UserError(
            f"process {jax.process_index()} does not see the checkpoints that process 0 sees in "
            f"{workdir}; choose a --workdir on a file system that all hosts share"
        )
    checkpoints = Checkpoints(workdir)
    try:
        step = checkpoints.newest_whole()
        return None if step is None else Newest(step, checkpoints.config(step))
    finally:
        checkpoints.close()


class Checkpoints:
    """The checkpoints of a working directory.

    Args:
        workdir: of the run.
        config: None opens them for reading only.

    Attributes:
        saved: the newest step that this run has seen whole on disk; 0 if it has seen none.
    """

    def __init__(self, workdir: Path, config: CheckpointConfig | None = None):
        self.directory = workdir.absolute() / "checkpoints"
        if config is None:
            if not workdir.exists():
                raise UserError(f"there is no workdir {workdir}; name the directory of a run")
            if not self.directory.is_dir():
                raise UserError(f"{workdir} is no workdir of a run: it has no folder checkpoints")
            options = ocp.CheckpointManagerOptions(create=False)
        else:
            options = ocp.CheckpointManagerOptions(
                cleanup_tmp_directories=True,
                best_fn=config.score,
                preservation_policy=_preservation(config),
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_digests),
            )
        self.saved = 0
        self._saving: int | None = None
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_names=ITEMS, item_handlers=_handlers()
        )

    def latest(self) -> int | None:
        """The newest checkpoint's step, or None."""
        return self._manager.latest_step()

    def newest_whole(self) -> int | None:
        """The newest undamaged checkpoint's step, after those after it were set aside, or None.

        Raises:
            UserError: all that there are are damaged.
        """
        step, damaged = None, {}
        if jax.process_index() == 0:
            step, damaged = self._first_whole()
            if step is not None:
                for broken, what in damaged.items():
                    self._set_aside(broken, what)
        # The others wait for the renaming, and are told of it.
        step = hosts.from_first(-1 if step is None else step)
        found = self._manager.all_steps()
        self._manager.reload()
        if step >= 0 or not found:
            return step if step >= 0 else None
        described = "; ".join(f"{step}: {what}" for step, what in damaged.items())
        raise UserError(
            f"every checkpoint in {self.directory} is damaged ({described or 'says process 0'}): "
            "bring back a copy, or choose another --workdir to start anew"
        )

    def _first_whole(self) -> tuple[int | None, dict[int, str]]:
        """The newest undamaged checkpoint, and what is wrong with newer ones."""
        damaged = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            what = checkpoint_digests.damage(self.directory / str(step), ITEMS)
            if what is None:
                return step, damaged
            damaged[step] = what
        return None, damaged

    def _set_aside(self, step: int, what: str) -> None:
        names = (f"{step}.damaged{count or ''}" for count in itertools.count())
        aside = next(path for name in names if not (path := self.directory / name).exists())
        (self.directory / str(step)).rename(aside)
        print(f"checkpoint {step} is damaged: {what}; it is now {aside}", file=sys.stderr)

    def find(self, step: int | Literal["best"] | None) -> int:
        """That checkpoint's step, the newest one's for None, or the best one's.

        Raises:
            UserError: it is not there, or its model is damaged.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise UserError(
                f"there is no checkpoint in {self.directory}; is the workdir right, and has its "
                "run saved one yet?"
            )
        if step is not None and step != "best" and step not in steps:
            raise UserError(f"there is no checkpoint {step} in {self.directory}; there are {steps}")
        found = self._best(steps) if step == "best" else steps[-1] if step is None else step
        what = checkpoint_digests.damage(self.directory / str(found), OF_A_MODEL)
        if what is not None:
            others = ", ".join(str(step) for step in steps if step != found)
            remedy = f"choose another step, there are {others}" if others else "bring back a copy"
            raise UserError(f"checkpoint {found} in {self.directory} is damaged: {what}; {remedy}")
        return found

    def _best(self, steps: list[int]) -> int:
        """The best by the held-out metric that the run was configured with."""
        config = from_dict(CheckpointConfig, self.config(steps[-1])["checkpoint"])
        scores = {step: config.score(self._manager.metrics(step)) for step in steps}
        best = max(steps, key=scores.__getitem__)
        if scores[best] == -math.inf:
            raise UserError(
                f"no checkpoint in {self.directory} has the held-out metric "
                f"'{config.best_metric}'; choose one of the steps {steps}"
            )
        return best

    def save(
        self,
        state: TrainState,
        *,
        step: int,
        data: Mapping[str, Any],
        config: Mapping[str, Any],
        metrics: Mapping[str, float],
    ) -> None:
        """Starts saving, when an earlier save is done; what the state holds now is what is saved.

        Args:
            state: after `step` steps.
            step: number of the checkpoint.
            data: position of this process' data iterator after those steps.
            config: the resolved config.
            metrics: held-out metrics at this step; with none it is kept as one of the newest, and
                is never the best.
        """
        model = {"params": state.model_params, "stats": state.stats}
        optimizer = _optimizer_item(state)
        arguments = ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            optimizer=ocp.args.StandardSave(optimizer),
            data=ocp.args.JsonSave({"positions": hosts.gathered(data)}),
            config=ocp.args.JsonSave({"format_version": FORMAT_VERSION, "config": config}),
        )
        self.wait()
        self._saving = step
        self._manager.save(step, args=arguments, metrics=dict(metrics))

    def _write_digests(self) -> None:
        """Orbax calls this on process 0, before it gives the folder its name."""
        for folder in self.directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
            checkpoint_digests.write(folder)

    def restore(
        self, step: int, like: TrainState, *, by_position: bool = True
    ) -> tuple[TrainState, Mapping[str, Any]]:
        """Reads a checkpoint into the places of an abstract state, whatever mesh wrote it.

        Args:
            step: which.
            like: the abstract state.
            by_position: whether the batches of all processes are at one position, however many
                processes there are; else each process is at a place of its own.

        Returns:
            The state, and the position of this process' data iterator.

        Raises:
            UserError: it has another format, or other parameters; or it was written by another
                number of processes, each of which was at a place of its own.
        """
        self.config(step)  # refuses another format, whose paths would not be found
        self._check_fits(step, {**like.params, **like.stats})
        restored = self._read(
            step,
            model=ocp.args.StandardRestore({"params": like.params, "stats": like.stats}),
            optimizer=ocp.args.StandardRestore(_optimizer_item(like)),
            data=ocp.args.JsonRestore(),
        )
        positions = _positions(restored["data"])
        if by_position:
            positions = positions[:1] * jax.process_count()
        if len(positions) != jax.process_count():
            raise UserError(
                f"checkpoint {step} in {self.directory} was written by {len(positions)} processes, "
                f"this run has {jax.process_count()}: streamed data goes on only with as many, as "
                "each was at another place; start as many, or start a new run in another workdir"
            )
        state = TrainState(
            step=restored["optimizer"]["step"],
            params=restored["model"]["params"] | restored["optimizer"].get("params", {}),
            stats=restored["model"]["stats"],
            opt_state=restored["optimizer"]["state"],
        )
        self.saved = step
        return state, positions[jax.process_index()]

    def restore_model(self, step: int, like: tuple[Params, Params]) -> tuple[Params, Params]:
        """Reads parameters and statistics alone; raises a UserError where it has others."""
        params, stats = like
        self._check_fits(step, {**params, **stats})
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

    def _check_fits(self, step: int, like: Params) -> None:
        """Refuses a whole checkpoint of other parameters, before Orbax fails at one of them."""
        there = self._manager.item_metadata(step).get("model")
        if there is None:  # damaged, as reading it will say
            return
        shapes = {path: tuple(x.shape) for part in there.values() for path, x in part.items()}
        wanted = {path: x.shape for path, x in like.items()}
        differences = [
            f"parameter {path} is {wanted.get(path, 'not')} in the model and "
            f"{shapes.get(path, 'not')} in the checkpoint of step {step}"
            for path in sorted(wanted.keys() | shapes.keys())
            if wanted.get(path) != shapes.get(path)
        ]
        if differences:
            more = f", and {len(differences) - 1} more differ" if len(differences) > 1 else ""
            raise UserError(
                f"{differences[0]}{more}: the code of the model changed since the run in "
                f"{self.directory.parent} began; take another --workdir, or bring the code back"
            )

    def _read(self, step: int, **items: Any) -> Any:
        """Restores items of a checkpoint, or raises a UserError that says what to do instead."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore raise many types for damaged files
            reason = str(error).strip().splitlines() or [repr(error)]
            raise UserError(
                f"checkpoint {step} in {self.directory} cannot be read: {reason[0][:300]}\n"
                f"If it is damaged, remove the folder {self.directory / str(step)} to go on from "
                "an earlier one."
            ) from error

    def wait(self) -> None:
        """Waits until what is being saved is on disk."""
        self._manager.wait_until_finished()
        self.saved = self._saving or self.saved

    def close(self) -> None:
        """Waits and releases resources."""
        self._manager.close()


def _positions(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of each process that wrote the item `data`; once only that of the first was written."""
    if "positions" in data:
        return data["positions"]
    return [data["position"]] * data["process_count"]


def _optimizer_item(state: TrainState) -> dict[str, Any]:
    """What training needs besides the model: also parameters of which the model has averages."""
    item = {"step": state.step, "state": state.opt_state}
    model = state.model_params
    own = {path: x for path, x in state.params.items() if model[path] is not x}
    return item | {"params": own} if own else item


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
        get_metric_fn=config.score,
        n=config.keep_best,
        keep_checkpoints_without_metrics=False,
    )
    return checkpoint_managers.AnyPreservationPolicy([last, best])
