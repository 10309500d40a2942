"""The classes of perceiver-pytorch 0.11 and perceiver-ar-pytorch, observed stage by stage.

- They add skips outside of their modules, so what is recorded is what goes into each module.
- A `PerceiverAR` has a prefix of one length, and counts padding in its positions. It is run with
  the prefix and the positions that our call has.
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
    """A model of one of the classes with random weights, in eval mode.

    Args:
        settings: its constructor arguments, and its class under "class".

    Raises:
        ReferenceMissing: the class' package or torch is not installed.
        ConfigError: the arguments are not those of one of these classes.
    """
    arguments = as_settings(parse(settings))
    name = arguments.pop(CLASS)
    if name != "PerceiverAR":
        return getattr(_package(), name)(**arguments).eval()
    model = _autoregressive_package().PerceiverAR(**arguments)
    import torch

    # Its rotary frequencies are float32, whatever the default type.
    return model.to(torch.get_default_dtype()).eval()


def stages(model: Any, inputs: Mapping[str, np.ndarray]) -> Stages:
    """Runs the model; its intermediate results under our names, in order of computation.

    Args:
        model: from `build`.
        inputs: `inputs` [B, *grid, c], or token ids [B, M] for a `PerceiverLM`; perhaps
            `input_mask` of any rank, True = an element; for a `PerceiverIO` `queries` [O, E] or
            [B, O, E]; for a `PerceiverAR` perhaps `num_latents`, and `positions` [B or 1, M], and
            its `input_mask` [B, M] has padding in the prefix alone.

    Raises:
        ValueError: latents of a `PerceiverAR` are padding.
    """
    import torch

    if hasattr(model, "cross_attn_seq_len"):
        return _stages_of_perceiver_ar(model, inputs)
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


def _stages_of_perceiver_ar(model: Any, inputs: Mapping[str, Any]) -> Stages:
    import torch

    ids = torch.from_numpy(np.array(inputs["inputs"]))
    num_tokens = ids.shape[1]
    most = model.max_seq_len - model.cross_attn_seq_len
    num_prefix = num_tokens - inputs.get("num_latents", min(most, num_tokens))
    mask, positions = inputs.get("input_mask"), inputs.get("positions")
    prefix_mask = None
    if mask is not None:
        if not mask[:, num_prefix:].all():
            raise ValueError(
                "lucidrains' PerceiverAR masks padding in the prefix alone, and here some of the "
                f"last {num_tokens - num_prefix} positions, which have latents, are padding"
            )
        prefix_mask = torch.from_numpy(mask[:, :num_prefix])
        if positions is None:
            positions = np.maximum(mask.cumsum(1) - 1, 0)
    points = list(_points_of_perceiver_ar(model))
    with _called_with(model, num_prefix, positions), _recording(points) as recorded:
        with torch.no_grad():
            model(ids, prefix_mask=prefix_mask)
    tokens, places, *rest = recorded
    names = [name for name, _, _ in points[2:]]
    return [("inputs", tokens + places), *zip(names, rest, strict=True)]


@contextmanager
def _called_with(model: Any, num_prefix: int, positions: Any) -> Iterator[None]:
    """A `PerceiverAR` with another length of the prefix, and with positions if these are given."""
    before, handles = model.cross_attn_seq_len, []
    if positions is not None:
        handles = _at_positions(model, positions)
    model.cross_attn_seq_len = num_prefix
    try:
        yield
    finally:
        model.cross_attn_seq_len = before
        for handle in handles:
            handle.remove()


def _at_positions(model: Any, positions: np.ndarray) -> list[Any]:
    """Hooks that put positions [B or 1, M] in place of those that a `PerceiverAR` counts."""
    import torch

    at = torch.from_numpy(np.array(positions, np.int64))
    frequencies = model.rotary_pos_emb.inv_freq
    angles = at[:, None, :, None] * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return [
        model.pos_emb.register_forward_pre_hook(lambda module, inputs: (at,)),
        model.rotary_pos_emb.register_forward_hook(lambda module, inputs, output: angles),
    ]


def _points_of_perceiver_ar(model: Any) -> Iterator[Point]:
    yield "inputs", model.token_emb, "output"
    yield "inputs", model.pos_emb, "output"
    layers = [
        *((f"cross_attention/{i}", layer) for i, layer in enumerate(model.perceive_layers)),
        *((f"block/layer/{i}", layer) for i, layer in enumerate(model.layers)),
    ]
    after = [attention for _, (attention, _) in layers[1:]]
    for (name, (_, mlp)), following in zip(layers, [*after, model.to_logits], strict=True):
        yield f"{name}/attention", mlp, "input"
        yield f"{name}/mlp", following, "input"
    yield "outputs", model.to_logits, "output"


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


def _autoregressive_package() -> Any:
    try:
        import perceiver_ar_pytorch
    except ImportError as error:
        raise ReferenceMissing(
            "comparing with lucidrains' PerceiverAR needs torch and perceiver-ar-pytorch: "
            "pip install torch perceiver-ar-pytorch"
        ) from error
    return perceiver_ar_pytorch
