"""The classes of perceiver-pytorch 0.11, observed stage by stage.

- They add skips outside of their modules, so what is recorded is what goes into each module.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from interop.formats.lucidrains.arguments import CLASS, as_settings, parse
from interop.references import ReferenceMissing
from interop.references.torch_stages import Stages, load_arrays

Point = tuple[str, Any, str]
"""Our stage name, a module, and what of it: "input", "context" (its keyword) or "output"."""


def build(settings: Mapping[str, Any]) -> Any:
    """A `Perceiver`, `PerceiverIO` or `PerceiverLM` with random weights, in eval mode.

    Args:
        settings: its constructor arguments, and its class under "class".

    Raises:
        ReferenceMissing: perceiver-pytorch 0.11 or torch is not installed.
        ConfigError: the arguments are not those of one of these classes.
    """
    arguments = as_settings(parse(settings))
    name = arguments.pop(CLASS)
    return getattr(_package(), name)(**arguments).eval()


def stages(model: Any, inputs: Mapping[str, np.ndarray]) -> Stages:
    """Runs the model; its intermediate results under our names, in order of computation.

    Args:
        model: from `build`.
        inputs: `inputs` [B, *grid, c], or token ids [B, M] for a `PerceiverLM`; perhaps
            `input_mask` of any rank, True = an element; for a `PerceiverIO` `queries` [O, E] or
            [B, O, E].
    """
    import torch

    tensors = {name: torch.from_numpy(np.array(array)) for name, array in inputs.items()}
    data, mask = tensors["inputs"], tensors.get("input_mask")
    if hasattr(model, "perceiver_io"):
        points, arguments = list(_points_of_perceiver_io(model.perceiver_io)), {"x": data}
    elif hasattr(model, "cross_attend_block"):
        points = list(_points_of_perceiver_io(model))
        # It takes a sequence; ours flattens grids itself.
        arguments = {"data": data.flatten(1, -2), "queries": tensors["queries"]}
    else:
        points, arguments = list(_points_of_perceiver(model)), {"data": data}
    with _recording(points) as recorded, torch.no_grad():
        outputs = model(mask=mask, **arguments)
    found: dict[str, np.ndarray] = {}
    for (name, _, _), array in zip(points, recorded, strict=True):
        # The inputs enter at every step.
        found.setdefault(name, array)
    return [*found.items(), ("outputs", outputs.numpy(force=True))]


def run(
    settings: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
) -> Stages:
    """Stages of the reference with these weights, loaded strictly."""
    return stages(load_arrays(build(settings), arrays), inputs)


def _points_of_perceiver(model: Any) -> Iterator[Point]:
    for i, block in enumerate(model.layers):
        step = f"encoder/step/{i}"
        yield "encoder/inputs", block.cross_attn, "context"
        yield f"{step}/cross_attention/attention", block.cross_ff, "input"
        before = f"{step}/cross_attention/mlp"
        for j, (attention, mlp) in enumerate(block.self_attns):
            yield before, attention, "input"
            yield f"{step}/block/layer/{j}/attention", mlp, "input"
            before = f"{step}/block/layer/{j}/mlp"
        yield before, block, "output"


def _points_of_perceiver_io(model: Any) -> Iterator[Point]:
    cross = "encoder/step/0/cross_attention"
    yield "encoder/inputs", model.cross_attend_block.cross_attn, "context"
    yield f"{cross}/attention", model.cross_attend_block.cross_ff, "input"
    yield f"{cross}/mlp", model.cross_attend_block, "output"
    tied = len(model.layers) > 1 and model.layers[0] is model.layers[1]
    for i, block in enumerate(model.layers):
        step, j = (i, 0) if tied else (0, i)
        layer = f"encoder/step/{step}/block/layer/{j}"
        yield f"{layer}/attention", block.self_attns[0][1], "input"
        yield f"{layer}/mlp", block, "output"
    decoder = "decoder/cross_attention"
    yield "decoder/queries", model.decoder_cross_attn, "input"
    if model.decoder_ff is not None:
        yield f"{decoder}/attention", model.decoder_ff, "input"
    last = "attention" if model.decoder_ff is None else "mlp"
    yield f"{decoder}/{last}", model.to_logits, "input"


@contextmanager
def _recording(points: list[Point]) -> Iterator[list[np.ndarray]]:
    """Collects what passes the points, in order of computation; a shared module is watched once."""
    recorded: list[np.ndarray] = []

    def record(tensor):
        recorded.append(tensor.numpy(force=True).copy())

    def watch(module, where):
        if where == "output":
            return module.register_forward_hook(lambda module, inputs, output: record(output))
        return module.register_forward_pre_hook(
            lambda module, inputs, keywords: record(
                inputs[0] if where == "input" else keywords["context"]
            ),
            with_kwargs=True,
        )

    distinct = {(id(module), where): module for _, module, where in points}
    handles = [watch(module, where) for (_, where), module in distinct.items()]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _package() -> Any:
    try:
        import perceiver_pytorch
    except ImportError:
        perceiver_pytorch = None
    # Classes before 0.11 have other names of parameters.
    if not hasattr(perceiver_pytorch, "PerceiverBlock"):
        raise ReferenceMissing(
            "comparing with lucidrains' models needs torch and perceiver-pytorch 0.11 or later: "
            "pip install torch 'perceiver-pytorch>=0.11'"
        )
    return perceiver_pytorch
