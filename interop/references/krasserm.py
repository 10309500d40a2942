"""The models of perceiver-io 0.11, without the packages that its own imports ask for.

- Its packages import Lightning, transformers and fairscale, which the models do not use.
- Nothing of the formats is imported: benchmarks run this in a process without JAX.
"""

import dataclasses
import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from interop.references import ReferenceMissing, frames
from interop.references.torch_stages import Stages, load_arrays, recording

IMAGE_CLASSIFIER = "perceiver.model.vision.image_classifier"
TEXT = "perceiver.model.text.common"
MASKED_LANGUAGE_MODEL = "perceiver.model.text.mlm"
TEXT_CLASSIFIER = "perceiver.model.text.classifier"
CAUSAL_LANGUAGE_MODEL = "perceiver.model.text.clm"
SYMBOLIC_AUDIO = "perceiver.model.audio.symbolic"
OPTICAL_FLOW = "perceiver.model.vision.optical_flow"
PACKAGES = (
    IMAGE_CLASSIFIER,
    TEXT,
    MASKED_LANGUAGE_MODEL,
    TEXT_CLASSIFIER,
    CAUSAL_LANGUAGE_MODEL,
    SYMBOLIC_AUDIO,
    OPTICAL_FLOW,
)
"""Folders with a `backend`, of which later ones import from earlier ones."""
CLASSES = (
    # (package, class of the model, of its encoder's and of its decoder's config)
    (
        IMAGE_CLASSIFIER,
        "ImageClassifier",
        "ImageEncoderConfig",
        "ClassificationDecoderConfig",
    ),
    (MASKED_LANGUAGE_MODEL, "MaskedLanguageModel", "TextEncoderConfig", "TextDecoderConfig"),
    (TEXT_CLASSIFIER, "TextClassifier", "TextEncoderConfig", "ClassificationDecoderConfig"),
    (OPTICAL_FLOW, "OpticalFlow", "OpticalFlowEncoderConfig", "OpticalFlowDecoderConfig"),
)


def build(settings: Mapping[str, Any]) -> Any:
    """The model that settings describe with random weights, in eval mode.

    Args:
        settings: its config as a nested dict.

    Raises:
        ReferenceMissing: perceiver-io or torch is not installed.
    """
    import torch

    if "encoder" not in settings:
        model = _causal(settings)
        # Its rotary frequencies are float32, whatever the default type.
        return model.to(torch.get_default_dtype()).eval()
    module, name, encoder_class, decoder_class = min(
        _classes(), key=lambda one: _num_unknown(settings, *one[2:])
    )
    encoder = dict(settings["encoder"])
    if "image_shape" in encoder:
        encoder["image_shape"] = tuple(encoder["image_shape"])
    config = getattr(module, f"{name}Config")(
        **{
            **settings,
            # It saves memory by a package that the models themselves do not need.
            "activation_checkpointing": False,
            "encoder": encoder_class(**encoder),
            "decoder": decoder_class(**settings["decoder"]),
        }
    )
    with warnings.catch_warnings():
        # Its call of torch.meshgrid leaves `indexing` to a default that will change.
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        return getattr(module, name)(config).eval()


def _causal(settings: Mapping[str, Any]) -> Any:
    """Perceiver AR; the class for music is the same under another name."""
    module = backend(CAUSAL_LANGUAGE_MODEL)
    config = module.CausalLanguageModelConfig(**{**settings, "activation_checkpointing": False})
    return module.CausalLanguageModel(config)


def _classes() -> Iterator[tuple[ModuleType, str, Any, Any]]:
    """`CLASSES`, with modules for packages and dataclasses for their names."""
    for package, name, encoder, decoder in CLASSES:
        module = backend(package)
        yield module, name, getattr(module, encoder), getattr(module, decoder)


def _num_unknown(settings: Mapping[str, Any], encoder: Any, decoder: Any) -> int:
    """How many of the fields that settings give are not those of two dataclasses."""
    halves = (("encoder", encoder), ("decoder", decoder))
    return sum(
        len(settings[half].keys() - {field.name for field in dataclasses.fields(cls)})
        for half, cls in halves
    )


def stages(model: Any, inputs: Mapping[str, np.ndarray]) -> Stages:
    """Runs the model; its intermediate results under our names, in order of computation.

    Args:
        model: from `build`.
        inputs: `inputs`, images [B, H, W, c], frames [B, 2, H, W, 3] or token ids [B, M], and
            perhaps `input_mask` [B, M], True = an element, but not of frames; for a causal model,
            whose padding is on the left, perhaps `num_latents`.
    """
    import torch

    mask = inputs.get("input_mask")
    # The reference's masks are True where there is nothing.
    pad_mask = None if mask is None else torch.from_numpy(~mask)
    if hasattr(model, "max_latents"):
        return _causal_stages(model, inputs, pad_mask)
    modules = _modules(model)
    with recording(dict(modules)) as recorded, torch.no_grad():
        _call(model, inputs["inputs"], pad_mask)
    # A module that is applied again was recorded under its first name.
    names = [name for name, _ in modules]
    found = [(name, array) for name, (_, array) in zip(names, recorded, strict=True)]
    if _predicts_flow(model):
        *earlier, (name, flow) = found
        return [*earlier, (name, flow.reshape(len(flow), -1, 2) * frames.FLOW_SCALE)]
    if type(model).__name__ != "MaskedLanguageModel":
        return found
    # It asks for every position that it has, and leaves out those behind the text at the end.
    num_tokens = inputs["inputs"].shape[1]
    return [
        (name, array[:, :num_tokens] if name.startswith("decoder/") else array)
        for name, array in found
    ]


def _call(model: Any, given: np.ndarray, pad_mask: Any) -> Any:
    """The model's output.

    Raises:
        ValueError: there is a mask of pixels, which a model of optical flow does not take.
    """
    import torch

    if not _predicts_flow(model):
        return model(torch.from_numpy(np.array(given)), pad_mask=pad_mask)
    if pad_mask is not None:
        raise ValueError("OpticalFlow takes no mask of pixels")
    return model(torch.from_numpy(np.ascontiguousarray(frames.patches(given))))


def _predicts_flow(model: Any) -> bool:
    return type(model).__name__ == "OpticalFlow"


def _causal_stages(model: Any, inputs: Mapping[str, Any], pad_mask: Any) -> Stages:
    import torch

    num_tokens = inputs["inputs"].shape[1]
    num_latents = inputs.get("num_latents", min(model.max_latents, num_tokens))
    modules = [
        ("inputs", model.input_adapter),
        *_layer("cross_attention/0", model.cross_attention),
        *(m for i, one in enumerate(model.self_attention) for m in _layer(f"block/layer/{i}", one)),
        ("outputs", model.output_adapter),
    ]
    with recording(dict(modules)) as recorded, torch.no_grad():
        ids = torch.from_numpy(np.array(inputs["inputs"]))
        model(ids, prefix_len=num_tokens - num_latents, pad_mask=pad_mask)
    return recorded


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


def backend(package: str = IMAGE_CLASSIFIER) -> ModuleType:
    """The module with the models of a package and their configs.

    Args:
        package: one of `PACKAGES`.

    Raises:
        ReferenceMissing: perceiver-io or torch is not installed.
    """
    root = _root()
    if root is None or importlib.util.find_spec("torch") is None:
        raise ReferenceMissing(
            "comparing with krasserm's models needs torch and perceiver-io 0.11; run: pip install "
            "torch; pip install --no-deps --ignore-requires-python perceiver-io==0.11.0"
        )
    return _imported(root)[package]


def _root() -> Path | None:
    """Where the package lies, if it is installed."""
    spec = importlib.util.find_spec("perceiver")
    for root in (spec and spec.submodule_search_locations) or ():
        if all((_folder(Path(root), package) / "backend.py").exists() for package in PACKAGES):
            return Path(root)
    return None


def _folder(root: Path, package: str) -> Path:
    return root.joinpath(*package.split(".")[1:])


@functools.cache
def _imported(root: Path) -> dict[str, ModuleType]:
    """The backends by package."""
    layers = ModuleType("fairscale.nn")
    layers.checkpoint_wrapper = None  # pyright: ignore[reportAttributeAccessIssue]
    stubs = {"fairscale": ModuleType("fairscale"), "fairscale.nn": layers}
    for package in PACKAGES:
        stubs[package] = ModuleType(package)
        stubs[package].__path__ = [str(_folder(root, package))]
    backends = {}
    with _standing_in(stubs):
        for package in PACKAGES:
            backends[package] = module = importlib.import_module(f"{package}.backend")
            # Packages offer what their backends have, and import each other by that.
            vars(stubs[package]).update(
                {name: part for name, part in vars(module).items() if not name.startswith("_")}
            )
    return backends


@contextmanager
def _standing_in(stubs: Mapping[str, ModuleType]) -> Iterator[None]:
    """Modules in place of those that are not imported yet."""
    added = [name for name in stubs if name not in sys.modules]
    sys.modules.update({name: stubs[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]
