"""Errors of optical flow over whole pictures, as benchmarks state them.

- Training evaluates crops of the model's size; here pictures are cut into tiles and put together.
"""

from collections.abc import Iterable, Iterator

import jax.numpy as jnp

from perceiver_jax.data.flow.batches import FlowSource
from perceiver_jax.errors import UserError
from perceiver_jax.pipelines.optical_flow import OpticalFlowEstimation
from perceiver_jax.train.flow_errors import flow_sums
from perceiver_jax.train.metrics import average


def flow_errors(
    estimate: OpticalFlowEstimation,
    source: FlowSource,
    indices: Iterable[int] | None = None,
) -> dict[str, float]:
    """End-point error and outliers over all valid pixels, see `train.flow_errors.flow_sums`.

    Args:
        estimate: the model.
        source: pairs with their flow; a few or all of an endless one.
        indices: which pairs, in this order; None: all.

    Raises:
        UserError: no pixel of any of these pairs is valid.
    """
    chosen = range(len(source)) if indices is None else indices
    pairs: list[tuple] = []

    def pictures() -> Iterator[tuple]:
        for i in chosen:
            pair = source[i]
            pairs.append((pair["flow"], pair["valid"]))
            yield pair["frames"][0], pair["frames"][1]

    def sums() -> Iterator[dict]:
        for flow in estimate(pictures()):
            truth, valid = pairs.pop(0)
            yield flow_sums(*(jnp.asarray(x)[None] for x in (flow, truth, valid)))

    results = list(sums())
    if not sum(float(one["end_point_error"][1]) for one in results):
        raise UserError("none of these pairs has a pixel with known flow; take another split")
    return average(results)
