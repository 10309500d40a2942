"""What the arrays of a model's call are, with every size but that of the batch settled.

- The config of the model tells; what it leaves open, `--size` or the data of the run.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from perceiver_jax.adapters.input_arrays import FreeSize, InputArray, InputArrays
from perceiver_jax.data import LabelledDataConfig
from perceiver_jax.data.labelled import open_split
from perceiver_jax.errors import UserError
from perceiver_jax.models import QueryDecoderConfig, ResamplerConfig
from perceiver_jax.models.perceiver_config import half_of


@dataclasses.dataclass(frozen=True)
class Signature:
    """The arguments of a call.

    Attributes:
        arrays: as `input_arrays` of a config tells them, without free sizes.
        example: arrays of an example, where the config tells nothing and the data had to.
    """

    arrays: InputArrays
    example: Mapping[str, Any] | None = None

    def shapes(self, batch: Any) -> dict[str, Any]:
        """The arguments as shapes, whose first axis is the batch: a number, or a symbol."""
        return _each(
            lambda array: jax.ShapeDtypeStruct((batch, *array.shape), np.dtype(array.dtype)),
            self.arrays,
        )

    def drawn(self, batch: int) -> dict[str, Any]:
        """Arguments to try the model with: the example, or random values in their ranges."""
        if self.example is not None:
            return _each(lambda x: np.stack([x] * batch), self.example)
        rng = np.random.default_rng(0)
        return _each(lambda array: _drawn(array, batch, rng), self.arrays)


def signature(config: Any, sizes: Mapping[str, int], data: Any) -> Signature:
    """The signature of a model.

    Args:
        config: of the model.
        sizes: free sizes by name, where the default is not wanted.
        data: the config of the data that it was trained on; None where that is not known.

    Raises:
        UserError: a size is unknown, or not given and found nowhere; or there is no telling.
    """
    encoder, decoder = half_of(config, "encoder"), half_of(config, "decoder")
    if isinstance(decoder, QueryDecoderConfig):
        raise UserError(
            "a model that is given its queries at the call is part of a larger program: export "
            "that with jax.export, by the lines in docs/deploy.md"
        )
    if isinstance(config, ResamplerConfig):
        arrays = _features(config)
    else:
        arrays = encoder.input_arrays()
    labelled = data if isinstance(data, LabelledDataConfig) else None
    if arrays is None:
        if labelled is None:
            raise UserError(
                f"{type(encoder).__name__} does not tell what arrays the model takes, and there is "
                "no data of a run to see; give it a method input_arrays, as "
                "perceiver_jax.adapters.input_arrays describes, or export the workdir of the run"
            )
        _check_names(sizes, {})
        example = _example(labelled)
        return Signature(_each(_as_given, example), example)
    free = _free_sizes(arrays)
    _check_names(sizes, free)
    known = {name: size.default for name, size in free.items()} | dict(sizes)
    if labelled is not None and None in known.values():
        known = _sizes_of_example(arrays, labelled) | {n: s for n, s in known.items() if s}
    missing = [name for name in free if known.get(name) is None]
    if missing:
        wanted = " ".join(f"--size {name}=N" for name in missing)
        raise UserError(
            f"the model takes any number of {' and '.join(missing)}, an artifact one; give {wanted}"
        )
    return Signature(_each(lambda array: _settled(array, known), arrays))


def _features(config: ResamplerConfig) -> InputArrays:
    """What a resampler is called with; the program it is part of says how many features."""
    lines = (FreeSize("features"),)
    if config.max_frames is not None:
        lines = (FreeSize("frames", config.max_frames), *lines)
    channels = config.num_input_channels or config.num_latent_channels
    mask = InputArray(shape=lines, dtype="bool", meaning="True: there is a feature; False: padding")
    inputs = InputArray(
        shape=(*lines, channels), dtype="float32", meaning="features of another model"
    )
    return {"inputs": inputs, "input_mask": mask}


def _each(function: Callable[[Any], Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The function of every array; arguments stay in the order of the call."""
    return {name: jax.tree.map(function, tree) for name, tree in arguments.items()}


def _free_sizes(arrays: InputArrays) -> dict[str, FreeSize]:
    leaves = jax.tree.leaves(dict(arrays))
    return {s.name: s for array in leaves for s in array.shape if isinstance(s, FreeSize)}


def _check_names(sizes: Mapping[str, int], free: Mapping[str, FreeSize]) -> None:
    for name in sizes.keys() - free.keys():
        known = f"it has {', '.join(free)}" if free else "all are settled"
        raise UserError(f"--size {name}: the model leaves no size of that name open; {known}")


def _settled(array: InputArray, sizes: Mapping[str, Any]) -> InputArray:
    shape = tuple(sizes[s.name] if isinstance(s, FreeSize) else s for s in array.shape)
    return dataclasses.replace(array, shape=shape)


def _example(data: LabelledDataConfig) -> dict[str, Any]:
    """The first held-out example, as the model is given it."""
    example = data.views(open_split(data, data.eval_split)[0])[0]
    arguments = {name: example[name] for name in ("inputs", "input_mask") if name in example}
    return _each(lambda x: np.asarray(x, _dtype(np.asarray(x))), arguments)


def _sizes_of_example(arrays: InputArrays, data: LabelledDataConfig) -> dict[str, int]:
    example = _example(data)
    pairs = [
        pair
        for name in example.keys() & arrays.keys()
        for pair in zip(jax.tree.leaves(arrays[name]), jax.tree.leaves(example[name]), strict=True)
    ]
    return {
        size.name: length
        for array, given in pairs
        for size, length in zip(array.shape, given.shape, strict=True)
        if isinstance(size, FreeSize)
    }


def _as_given(array: np.ndarray) -> InputArray:
    meaning = "as the data of the run gives it"
    return InputArray(shape=array.shape, dtype=array.dtype.name, meaning=meaning)


def _dtype(array: np.ndarray) -> np.dtype:
    """The type that JAX gives it."""
    return jax.dtypes.canonicalize_dtype(array.dtype)


def _drawn(array: InputArray, batch: int, rng: np.random.Generator) -> np.ndarray:
    shape: Any = (batch, *array.shape)
    if array.dtype == "bool":
        return np.arange(shape[-1]) < rng.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    if array.least is None or array.most is None:
        return rng.standard_normal(shape).astype(array.dtype)
    if np.issubdtype(np.dtype(array.dtype), np.integer):
        return rng.integers(int(array.least), int(array.most) + 1, shape).astype(array.dtype)
    return rng.uniform(array.least, array.most, shape).astype(array.dtype)
