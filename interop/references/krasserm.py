"""The image classifier of perceiver-io 0.11, without the packages that its own imports ask for.

- Its package imports Lightning, transformers and fairscale, which the model itself does not use.
"""

import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from interop.references import ReferenceMissing
from interop.references.torch_stages import Stages, load_arrays, recording

PACKAGE = "perceiver.model.vision.image_classifier"
BACKEND = f"{PACKAGE}.backend"


def build(settings: Mapping[str, Any]) -> Any:
    """An `ImageClassifier` with random weights, in eval mode.

    Args:
        settings: its config as a nested dict.

    Raises:
        ReferenceMissing: perceiver-io or torch is not installed.
    """
    module = backend()
    encoder = settings["encoder"]
    encoder = {**encoder, "image_shape": tuple(encoder["image_shape"])}
    config = module.ImageClassifierConfig(
        **{
            **settings,
            "encoder": module.ImageEncoderConfig(**encoder),
            "decoder": module.ClassificationDecoderConfig(**settings["decoder"]),
        }
    )
    with warnings.catch_warnings():
        # Its call of torch.meshgrid leaves `indexing` to a default that will change.
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        return module.ImageClassifier(config).eval()


def stages(model: Any, inputs: Mapping[str, np.ndarray]) -> Stages:
    """Runs the model; its intermediate results under our names, in order of computation.

    Args:
        model: from `build`.
        inputs: `inputs` [B, H, W, c], and perhaps `input_mask` [B, M], True = a pixel.
    """
    import torch

    mask = inputs.get("input_mask")
    # The reference's masks are True where there is nothing.
    pad_mask = None if mask is None else torch.from_numpy(~mask)
    modules = _modules(model)
    with recording(dict(modules)) as recorded, torch.no_grad():
        model(torch.from_numpy(inputs["inputs"]), pad_mask=pad_mask)
    # A module that is applied again was recorded under its first name.
    names = [name for name, _ in modules]
    return [(name, array) for name, (_, array) in zip(names, recorded, strict=True)]


def run(
    settings: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
) -> Stages:
    """Stages of the reference with these weights, loaded strictly."""
    return stages(load_arrays(build(settings), arrays), inputs)


def _modules(model: Any) -> list[tuple[str, Any]]:
    """(our stage name, module) in order of computation; repeated modules stand repeatedly."""
    encoder, decoder = model.encoder, model.decoder
    modules = [("encoder/inputs", encoder.input_adapter)]
    for step in range(encoder.num_self_attention_blocks):
        if step < encoder.num_cross_attention_layers:
            layer = _at(encoder, "cross_attn", step)
            modules += _layer(f"encoder/step/{step}/cross_attention", layer)
        for i, layer in enumerate(_at(encoder, "self_attn", step)):
            modules += _layer(f"encoder/step/{step}/block/layer/{i}", layer)
    return [
        *modules,
        ("decoder/queries", decoder.output_query_provider),
        *_layer("decoder/cross_attention", decoder.cross_attn),
        ("outputs", model),
    ]


def _at(encoder: Any, name: str, step: int) -> Any:
    """What a step applies: the repeated module from the second on, where it is one of its own."""
    first = getattr(encoder, f"{name}_1")
    return getattr(encoder, f"{name}_n", first) if step else first


def _layer(name: str, layer: Any) -> list[tuple[str, Any]]:
    return [(f"{name}/attention", layer[0]), (f"{name}/mlp", layer[1])]


def backend() -> ModuleType:
    """The module with the model and its configs.

    Raises:
        ReferenceMissing: perceiver-io or torch is not installed.
    """
    folder = _folder()
    if folder is None or importlib.util.find_spec("torch") is None:
        raise ReferenceMissing(
            "comparing with krasserm's models needs torch and perceiver-io 0.11; run: pip install "
            "torch; pip install --no-deps --ignore-requires-python perceiver-io==0.11.0"
        )
    return _imported(folder)


def _folder() -> Path | None:
    """Where the package lies, if it is installed."""
    spec = importlib.util.find_spec("perceiver")
    for root in (spec and spec.submodule_search_locations) or ():
        folder = Path(root) / "model" / "vision" / "image_classifier"
        if (folder / "backend.py").exists():
            return folder
    return None


@functools.cache
def _imported(folder: Path) -> ModuleType:
    package, fairscale, layers = map(ModuleType, (PACKAGE, "fairscale", "fairscale.nn"))
    package.__path__ = [str(folder)]
    layers.checkpoint_wrapper = None  # pyright: ignore[reportAttributeAccessIssue]
    stubs = {PACKAGE: package, "fairscale": fairscale, "fairscale.nn": layers}
    stubs = {name: stub for name, stub in stubs.items() if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        return importlib.import_module(BACKEND)
    finally:
        for name in stubs:
            del sys.modules[name]
