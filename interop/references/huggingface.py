"""Hugging Face's Perceivers as they are installed.

- They make tables of positions in float32; where the model is float64, these are given to them.
- A model of optical flow has the attribute `flow_scale`: what flow is multiplied with to be pixels.
- Models of clips are in `clips`, as they take and give several arrays; `resamplers` are no
  Perceivers of that library.
"""

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from interop.references import ReferenceMissing, clips, frames, resamplers
from interop.references.torch_stages import Stages, load_arrays, recording

OPTICAL_FLOW = "PerceiverForOpticalFlow"


def build(settings: Mapping[str, Any]) -> Any:
    """The class that a `config.json` names, with random weights, in eval mode.

    Args:
        settings: of its `config.json`.

    Raises:
        ReferenceMissing: transformers is not installed.
    """
    modeling = transformers_perceiver()
    (architecture,) = settings["architectures"]
    if architecture in resamplers.CLASSES:
        with quiet():
            return resamplers.build(settings)
    with quiet():
        model = getattr(modeling, architecture)(modeling.PerceiverConfig(**settings))
    if architecture == OPTICAL_FLOW:
        model.flow_scale = frames.FLOW_SCALE
    return exact_positions(model.eval())


def transformers_perceiver() -> ModuleType:
    """The module of transformers with everything of its Perceiver.

    Raises:
        ReferenceMissing: transformers or torch is not installed.
    """
    try:
        with quiet():
            import torch  # noqa: F401
            from transformers.models.perceiver import modeling_perceiver
    except ImportError as error:
        raise ReferenceMissing(
            f"Hugging Face's models are not installed ({error}); run: pip install "
            "'transformers>=5.0' torch"
        ) from error
    return modeling_perceiver


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides warnings of the library's own code, of which users can change nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


def exact_positions(model: Any) -> Any:
    """The model, computing Fourier features in float64 where that is torch's default type."""
    import torch

    if torch.get_default_dtype() != torch.float64:
        return model
    encoding = transformers_perceiver().PerceiverFourierPositionEncoding

    def give_positions(module, arguments, keywords):
        if keywords.get("pos") is not None:
            # Those of chosen points, in the model's type.
            return None
        index_dims, batch_size = arguments[:2]
        lines = [torch.linspace(-1.0, 1.0, size) for size in index_dims]
        grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
        pos = grid.reshape(1, -1, len(index_dims)).expand(batch_size, -1, -1)
        return arguments, keywords | {"pos": pos}

    for module in model.modules():
        if isinstance(module, encoding):
            module.register_forward_pre_hook(give_positions, with_kwargs=True)
    return model


def run(
    settings: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    inputs: Mapping[str, Any],
) -> Stages:
    """Builds a model, loads weights into it and runs it.

    Args:
        settings: as for `build`.
        arrays: its state dict.
        inputs: as for `stages`.

    Returns:
        As of `stages`.

    Raises:
        ReferenceMissing: transformers is not installed.
    """
    return stages(load_arrays(build(settings), arrays), inputs)


def forward(model: Any, inputs: Mapping[str, Any]) -> Any:
    """The model's output for inputs as in `stages`, a tensor with gradients; of clips, several."""
    import torch

    if resamplers.is_resampler(model):
        return resamplers.forward(model, inputs)
    if clips.takes_clips(model):
        return clips.forward(model, inputs)
    given = inputs["inputs"]
    mask = inputs.get("input_mask")
    if _predicts_flow(model):
        given = np.ascontiguousarray(frames.patches(given))
    elif given.ndim == 2:
        given = given.astype(np.int64)
    else:
        given = np.ascontiguousarray(np.moveaxis(given, -1, 1))
    outputs = model.perceiver(
        inputs=torch.from_numpy(given),
        attention_mask=None if mask is None else torch.from_numpy(mask),
    ).logits
    if _predicts_flow(model):
        return outputs * model.flow_scale
    if not _predicts_tokens(model):
        return outputs
    # All positions that there are have been asked for.
    outputs = outputs[:, : given.shape[1]]
    return model.embedding_decoder(outputs, model.perceiver.input_preprocessor.embeddings)


def _predicts_tokens(model: Any) -> bool:
    return hasattr(model, "embedding_decoder")


def _predicts_flow(model: Any) -> bool:
    return hasattr(model, "flow_scale")


def stages(model: Any, inputs: Mapping[str, Any]) -> Stages:
    """Runs a model and records what its layers return, under our names.

    Args:
        model: as made by `build`.
        inputs: `inputs`, images [B, H, W, c], frames [B, 2, H, W, 3] or token ids [B, M];
            `input_mask`, [B, M] bool, True = a token; of clips, as of `clips.forward`, of
            resamplers as of `resamplers.stages`.

    Returns:
        [(name of our stage, array)] in order of computation, `outputs` last.
    """
    import torch

    if resamplers.is_resampler(model):
        return resamplers.stages(model, inputs)
    perceiver = model.perceiver
    crossed = perceiver.encoder.cross_attention
    # Decoders of classes are wrapped.
    decoder = getattr(perceiver.decoder, "decoder", perceiver.decoder)
    modules = {
        "encoder/inputs": perceiver.input_preprocessor,
        "encoder/step/{}/cross_attention/attention": crossed.attention,
        "encoder/step/{}/cross_attention/mlp": crossed,
    }
    for i, layer in enumerate(perceiver.encoder.self_attends):
        modules[f"encoder/step/{{}}/block/layer/{i}/attention"] = layer.attention
        modules[f"encoder/step/{{}}/block/layer/{i}/mlp"] = layer
    modules |= {
        "decoder/queries": decoder.output_position_encodings,
        "decoder/cross_attention/attention": decoder.decoding_cross_attention.attention,
        "decoder/cross_attention/mlp": decoder.decoding_cross_attention,
    }
    taking = {}
    if _predicts_flow(model) or clips.takes_clips(model):
        # Tokens or modalities ask there; its own positions are never computed.
        del modules["decoder/queries"]
        taking["decoder/queries"] = decoder.decoding_cross_attention
    with recording(modules, taking) as recorded, torch.no_grad():
        outputs = forward(model, inputs)
    if _predicts_flow(model):
        outputs = outputs.flatten(1, 2)
    # Blocks are applied again and again.
    calls: Counter[str] = Counter()
    result: Stages = []
    for name, array in recorded:
        if name.startswith("decoder/") and _predicts_tokens(model):
            array = array[:, : inputs["inputs"].shape[1]]
        result.append((name.format(calls[name]), array))
        calls[name] += 1
    if clips.takes_clips(model):
        return clips.by_modality(result, outputs)
    return [*result, ("outputs", outputs.numpy(force=True))]
