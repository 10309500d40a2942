"""Optimizers and learning-rate schedules, put together from optax.

- Order of a step: clip gradients, optimizer, weight decay, schedule; accumulation comes before.
- Weight decay is decoupled for AdamW and LAMB; `no_decay` names parameters by path.
- Frozen parameters are not in the optimizer at all: it is made for the others.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Literal

import optax

from perceiver_jax.config import check_fields, check_regex, setting
from perceiver_jax.errors import UserError
from perceiver_jax.params import matching
from perceiver_jax.train.averaging import average_params
from perceiver_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which optimizer, and how its learning rate changes over the steps."""

    name: Literal["adamw", "lamb", "adam", "sgd", "muon"] = setting(
        "adamw",
        "'adamw', 'lamb', 'adam' (no weight decay), 'sgd', or 'muon': kernels move along the "
        "orthogonalised momentum, about as far as AdamW would move them, all else as NAdam would",
    )
    learning_rate: float = setting(1e-3, "peak learning rate")
    schedule: Literal["constant", "cosine", "constant_cosine", "step", "exponential"] = setting(
        "constant",
        "after warm-up: 'constant'; 'cosine' down to final_fraction; 'constant_cosine', the first "
        "half of training constant, then cosine; 'step', times decay_rate every decay_steps; "
        "'exponential', the same but continuous",
    )
    warmup_steps: int = setting(0, "steps in which the rate rises linearly from zero")
    final_fraction: float = setting(0.0, "where the cosine ends, as a fraction of the peak")
    decay_rate: float = setting(0.9, "factor of 'step' and 'exponential'")
    decay_steps: int = setting(1000, "steps between two factors of 'step' and 'exponential'")
    weight_decay: float = setting(
        0.01, "decay per step, times the learning rate; not of adam and sgd"
    )
    no_decay: tuple[str, ...] = setting(
        (r"bias$", r"norm/scale$"), "regular expressions of parameter paths that do not decay"
    )
    b1: float = setting(
        0.9, "decay of the first moment; momentum of 'sgd'; kernels of 'muon' have 0.95"
    )
    b2: float = setting(0.999, "decay of the second moment")
    epsilon: float = setting(1e-8, "added to the root of the second moment")
    frozen: tuple[str, ...] = setting(
        (),
        "regular expressions of parameter paths that are not trained: they have no gradient and no "
        "optimizer state",
    )
    learning_rate_factors: tuple[tuple[str, float], ...] = setting(
        (),
        "pairs of a regular expression and a factor: parameters with such a path learn at that "
        "multiple of the rate; of several pairs that fit, the first",
    )
    clip_norm: float | None = setting(None, "largest global norm of the gradients; None: no limit")
    accumulate: int = setting(
        1, "parts that a batch is divided into; their gradients are averaged for one step"
    )

    average_decay: float = setting(
        0.0,
        "of a running average of the parameters, which then is what is evaluated and saved as the "
        "model, such as 0.9999; 0: none",
    )

    def __post_init__(self):
        check_fields(self)
        for name, valid, wanted in (
            ("average_decay", 0 <= self.average_decay < 1, "in [0, 1)"),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            ("warmup_steps", self.warmup_steps >= 0, "0 or more"),
            ("decay_steps", self.decay_steps >= 1, "1 or more"),
            ("learning_rate", self.learning_rate >= 0, "0 or more"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("b1", 0 <= self.b1 < 1, "in [0, 1)"),
            ("b2", 0 <= self.b2 < 1, "in [0, 1)"),
            ("epsilon", self.epsilon >= 0, "0 or more"),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0, "above 0, or None"),
        ):
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)} must be {wanted}")
        for name in ("no_decay", "frozen"):
            for pattern in getattr(self, name):
                check_regex(pattern, name)
        for pattern, factor in self.learning_rate_factors:
            check_regex(pattern, "learning_rate_factors")
            if factor < 0:
                raise ValueError(
                    f"learning_rate_factors has {factor} for '{pattern}'; factors are 0 or more"
                )

    def trained(self, paths: Iterable[str], *, fixed: Iterable[str] = ()) -> list[str]:
        """Those of the parameter paths that are not frozen.

        Args:
            paths: of all parameters.
            fixed: regular expressions of those that the model itself does not let train.

        Raises:
            UserError: a pattern fits no parameter, or nothing is left to train.
        """
        paths = list(paths)
        factors = tuple(pattern for pattern, _ in self.learning_rate_factors)
        for name, patterns in (("frozen", self.frozen), ("learning_rate_factors", factors)):
            for pattern in patterns:
                if not matching(paths, [pattern]):
                    raise UserError(
                        f"optimizer.{name} has '{pattern}', which is found in no parameter path of "
                        f"this model; its paths begin with {', '.join(_beginnings(paths))}"
                    )
        frozen = matching(paths, (*self.frozen, *fixed))
        for pattern in factors:
            if matching(paths, [pattern]) <= frozen:
                raise UserError(
                    f"optimizer.learning_rate_factors has '{pattern}', and all that it is found in "
                    "is frozen; leave out one or the other"
                )
        if len(frozen) == len(paths):
            raise UserError(
                f"optimizer.frozen={self.frozen} freezes every parameter; leave some to train"
            )
        return [path for path in paths if path not in frozen]


def learning_rate_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Step → learning rate, for a run of that many steps."""
    peak, rest = config.learning_rate, max(1, num_steps - config.warmup_steps)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, config.final_fraction)
    elif config.schedule == "constant_cosine":
        half = rest // 2
        cosine = optax.cosine_decay_schedule(peak, max(1, rest - half), config.final_fraction)
        after = optax.join_schedules([optax.constant_schedule(peak), cosine], [half])
    elif config.schedule in ("step", "exponential"):
        after = optax.exponential_decay(
            peak, config.decay_steps, config.decay_rate, staircase=config.schedule == "step"
        )
    else:
        after = optax.constant_schedule(peak)
    if not config.warmup_steps:
        return after
    warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of that many steps, over flat parameter dicts."""
    rate = learning_rate_schedule(config, num_steps)

    def decays(params: Params) -> dict[str, bool]:
        excluded = matching(params, config.no_decay)
        return {path: path not in excluded for path in params}

    moments: dict[str, Any] = {"b1": config.b1, "b2": config.b2, "eps": config.epsilon}
    decay: dict[str, Any] = {"weight_decay": config.weight_decay, "mask": decays}
    if config.name == "adamw":
        optimizer = optax.adamw(rate, **moments, **decay)
    elif config.name == "lamb":
        optimizer = optax.lamb(rate, **moments, **decay)
    elif config.name == "adam":
        optimizer = optax.adam(rate, **moments)
    elif config.name == "muon":
        optimizer = optax.chain(
            _scale_by_muon(config),
            # Updates point downhill already.
            optax.add_decayed_weights(-config.weight_decay, decays),
            optax.scale_by_schedule(rate),
        )
    else:
        optimizer = optax.sgd(rate, momentum=config.b1 or None)
    steps: list[optax.GradientTransformation] = [optimizer]
    if config.clip_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.learning_rate_factors:
        steps.append(_scale_by_path(config.learning_rate_factors))
    if config.average_decay:
        steps.append(average_params(config.average_decay))
    return optax.chain(*steps) if len(steps) > 1 else optimizer


def _scale_by_muon(config: OptimizerConfig) -> optax.GradientTransformation:
    """Muon's updates of kernels [in, out], NAdam's of the rest, at a learning rate of 1.

    Source: Jordan et al. 2024; the root mean square of an update is 0.2 as in "Muon is Scalable for
    LLM Training" §2.2, which is about AdamW's.
    """
    from optax import contrib

    def kernels(params: Params) -> dict[str, Any]:
        return {
            path: contrib.MuonDimensionNumbers()
            if path.endswith("/kernel") and parameter.ndim == 2
            else None
            for path, parameter in params.items()
        }

    chosen: Any = kernels
    return contrib.muon(
        1.0,
        beta=0.95,
        adam_b1=config.b1,
        adam_b2=config.b2,
        eps=config.epsilon,
        muon_weight_dimension_numbers=chosen,
        consistent_rms=0.2,
    )


def _scale_by_path(factors: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Updates times the factor of the first pattern that is found in their path."""

    def factor(path: str) -> float:
        return next((value for pattern, value in factors if re.search(pattern, path)), 1.0)

    def scale(updates: Any, params: Any) -> Any:
        return {path: update * factor(path) for path, update in updates.items()}

    return optax.stateless(scale)


def _beginnings(paths: Iterable[str]) -> list[str]:
    """The first two parts of paths."""
    return sorted({"/".join(path.split("/")[:2]) for path in paths})
