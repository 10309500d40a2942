"""Causal models of a reference beside ours with the same weights, and what is asked of every pair.

- Tiny random models, in float64 where a test says so.
- A buffer is what a reference computes and keeps with its weights: the rotary frequencies.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from interop import load, save
from interop.references import ReferenceMissing
from interop.references.torch_stages import load_arrays
from interop.rows import Arrays, Row
from perceiver_jax import models
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    Stages,
    assert_same_arrays,
    assert_same_stages,
    bind,
    wanted,
)

TOLERANCE = 1e-10


@dataclasses.dataclass(frozen=True)
class Pair:
    """The reference with random weights, and our model's structure and weights."""

    model: Any
    config: CausalSequenceConfig
    structure: Skeleton
    rows: list[Row]
    buffers: tuple[str, ...]

    def ours_from(self, theirs: Arrays, dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Our arrays from theirs; dtype None: in float32."""
        return load(self.rows, theirs, wanted(self.structure, dtype))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Our parameters."""
        return self.ours_from(torch_models.state(self.model))

    @property
    def ours(self) -> Any:
        return bind(self.structure, self.arrays)


def build(reference: Any, settings: dict[str, Any]) -> Any:
    """The reference with random weights; skips the test where it is not installed."""
    try:
        return reference.build(settings)
    except ReferenceMissing as error:
        pytest.skip(str(error))


def make_pair(
    reference: Any, form: Any, settings: dict[str, Any], *, seed: int, buffers: tuple[str, ...] = ()
) -> Pair:
    """A pair of the model that settings describe.

    Args:
        reference: a module of `interop.references`.
        form: the module of `interop.formats` that reads its settings and weights.
        settings: of the reference.
        seed: of the weights.
        buffers: names of tensors that are computed.
    """
    model = build(reference, settings)
    torch_models.randomise(model, seed)
    config = form.config(settings)
    assert isinstance(config, CausalSequenceConfig)
    pair = Pair(model, config, models.skeleton(config), form.rows(config), buffers)
    if buffers:
        # They are made anew, in float64 where that is the default.
        theirs = torch_models.state(model)
        load_arrays(model, save(pair.rows, pair.ours_from(theirs, theirs[buffers[0]].dtype)))
    return pair


def assert_same_stages_and_gradients(
    pair: Pair,
    theirs: Stages,
    logits: Any,
    inputs: dict[str, Any],
    *,
    counted: Any = 1.0,
) -> list[str]:
    """Compares every stage, and the gradients of a sum of the logits with random weights.

    Args:
        pair: both models; theirs has gradients afterwards.
        theirs: stages of the reference.
        logits: [B, N, V] tensor that the reference gave, called as its users call it.
        inputs: arguments of our model.
        counted: [B, N, 1], 0 where logits mean nothing.

    Returns:
        Names of the stages.
    """
    import torch

    weights = np.random.default_rng(2).normal(size=logits.shape) * counted
    (logits * torch.from_numpy(weights)).sum().backward()

    def loss(arrays):
        return (bind(pair.structure, arrays)(**inputs) * weights).sum()

    names = []

    def both(arrays):
        stages = bind(pair.structure, arrays).stages(**inputs)
        names[:] = stages
        return list(stages.values()), jax.grad(loss)(arrays)

    stages, gradients = jax.jit(both, compiler_options=QUICK_COMPILATION)(pair.arrays)
    assert names == [name for name, _ in theirs]
    num_layers = pair.config.num_cross_attentions + pair.config.num_self_attention_layers
    assert len(names) == 2 * num_layers + 2
    assert_same_stages(list(zip(names, stages, strict=True)), theirs, TOLERANCE)
    np.testing.assert_array_equal(theirs[-1][1], logits.numpy(force=True))
    state = torch_models.state(pair.model)
    wanted_gradients = torch_models.gradients(pair.model)
    wanted_gradients |= {name: state[name] for name in pair.buffers}
    assert_same_arrays(gradients, pair.ours_from(wanted_gradients), TOLERANCE)
    return names


def assert_small(errors: list[float], *, count: int) -> None:
    """There are so many errors, and all are within the tolerance."""
    print(f"largest of {len(errors)} errors: {max(errors):.1e}")
    assert len(errors) == count
    assert max(errors) <= TOLERANCE


def assert_exact_round_trip(pair: Pair, *others: Any, dtype: Any = None) -> None:
    """Theirs → ours → theirs → ours; the reference takes the result, strictly.

    Args:
        pair: both models; the weights of theirs are set again.
        others: models of other classes that take the same weights.
        dtype: of the weights; None: float32.
    """
    theirs = torch_models.state(pair.model)
    ours = pair.ours_from(theirs, dtype)
    back = save(pair.rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    for model in (pair.model, *others):
        torch_models.randomise(model, seed=99)
        load_arrays(model, back)
        for tensor, array in torch_models.state(model).items():
            np.testing.assert_array_equal(array, theirs[tensor], err_msg=tensor)
    again = pair.ours_from(back, dtype)
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


def assert_buffer_has_to_be_the_computed_one(pair: Pair, fresh: Any) -> None:
    """A file may hold the buffer of a fresh model, in float32, and none that differs by 1 %."""
    theirs, (buffer,) = torch_models.state(pair.model), pair.buffers
    theirs[buffer] = torch_models.state(fresh)[buffer]
    pair.ours_from(theirs, None)
    with pytest.raises(ValueError, match=f"value *{buffer}"):
        pair.ours_from(theirs | {buffer: theirs[buffer] * np.float32(0.99)}, None)
