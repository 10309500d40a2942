"""Operations that a model takes by its definition, for model FLOPs utilisation.

- The products and convolutions of the forward pass, three times: the backward pass has two of the
  same size for each. What is computed again, to spare memory, does not count, and neither does what
  a cheaper form of attention saves.
- Counted in the traced program, where loops say how often they run; nothing is computed.

Source: PaLM (arXiv:2204.02311) appendix B.
"""

import dataclasses
import math
from typing import Any, cast

import jax
from jax.extend.core import jaxprs_in_params

from perceiver_jax import models
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.tasks import Task
from perceiver_jax.typing import Batch

FORWARD_AND_BACKWARD = 3


def model_flops(config: ExperimentConfig, batch: Batch) -> float:
    """Operations of a training step, as if all parameters were trained.

    Args:
        config: of the run.
        batch: over all devices; shapes are enough.
    """
    task = cast(Task, config.task)
    skeleton = models.skeleton(_by_definition(config.model))

    def loss(params, stats, batch):
        return task.loss(skeleton.bind(params, stats), batch, jax.random.key(0))["loss"]

    traced = jax.make_jaxpr(loss)(skeleton.params, skeleton.stats, batch)
    return FORWARD_AND_BACKWARD * count_products(traced.jaxpr)


def count_products(jaxpr: Any) -> float:
    """Multiplications and additions of the products and convolutions of a traced function.

    Of branches, the larger one counts; a loop of which the length is not known counts once.
    """
    return sum(map(_count, jaxpr.eqns))


def _count(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lengths = [equation.invars[0].aval.shape[i] for i in contracted]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(lengths)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        num_outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / num_outputs
    if name == "cond":
        return max(count_products(branch.jaxpr) for branch in params["branches"])
    inner = sum(count_products(jaxpr) for jaxpr in jaxprs_in_params(params))
    return params["length"] * inner if name == "scan" else inner


def _by_definition(config: Any) -> Any:
    """A config in which all that has forms takes the plain one."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    fields = {
        field.name: _by_definition(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.init
    }
    if "implementation" in fields:
        fields["implementation"] = "plain"
    return dataclasses.replace(config, **fields)
