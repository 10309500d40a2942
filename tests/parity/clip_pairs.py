"""Autoencoders of clips in two implementations, and what is compared of them in float64."""

import dataclasses
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from interop import load, save
from interop.references import huggingface as reference
from perceiver_jax import models
from perceiver_jax.models import PerceiverConfig
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    assert_same_stages,
    bind,
    max_error,
    wanted,
)
from tests.parity.training import STEPS, assert_same_training

TOLERANCE = 1e-10
NAME = "video_autoencoding"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A reference with random weights, and our model's structure."""

    model: Any
    config: PerceiverConfig
    structure: Skeleton
    rows: Any

    @property
    def clip(self) -> dict[str, Any]:
        return make_clip(self.config)


def make_clip(config: PerceiverConfig, seed: int = 0, dtype: str = "float64") -> dict[str, Any]:
    encoder, rng = config.encoder, np.random.default_rng(seed)
    shown = encoder.label_mask_rate < 1.0
    return {
        "image": rng.random((3, *encoder.video_shape)).astype(dtype),
        "audio": rng.normal(size=(3, encoder.num_samples, 1)).astype(dtype),
        "label": rng.integers(encoder.num_classes, size=3) if shown else None,
    }


def make_points(config: PerceiverConfig, seed: int = 1) -> dict[str, np.ndarray]:
    encoder, rng = config.encoder, np.random.default_rng(seed)
    pixels = np.prod(encoder.video_shape[:-1])
    stretches = encoder.num_samples // encoder.samples_per_patch
    return {
        "image": rng.permutation(pixels)[None, :7].astype(np.int32),
        "audio": rng.permutation(stretches)[None, :2].astype(np.int32),
    }


def randomise(model: Any, seed: int) -> None:
    """Wide layers get smaller numbers, so that softmax and GELU are not flat."""
    import torch

    torch_models.randomise(model, seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight *= min(1.0, (8 / module.in_features) ** 0.5)


def our_arrays(pair: Pair) -> dict[str, np.ndarray]:
    return load(pair.rows, torch_models.state(pair.model), wanted(pair.structure, jnp.float64))


def assert_same_forward_pass(pair: Pair) -> None:
    inputs = {"inputs": pair.clip, "query_indices": make_points(pair.config)}
    ours = bind(pair.structure, our_arrays(pair)).stages(**inputs)
    theirs = reference.stages(pair.model, inputs)
    assert list(ours) == [stage for stage, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


def assert_same_gradients(pair: Pair) -> None:
    """Of all points: compiled, as the model is called, with its loops and blocks."""
    import torch

    arrays, want = our_arrays(pair), wanted(pair.structure, jnp.float64)
    outputs = reference.forward(pair.model, {"inputs": pair.clip})
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(size=outputs[name].shape) for name in sorted(outputs)}
    sum((outputs[name] * torch.from_numpy(weights[name])).sum() for name in outputs).backward()
    theirs = load(pair.rows, torch_models.gradients(pair.model), want)

    @partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def compute(arrays):
        def loss(arrays):
            outputs = pair.structure.bind(arrays, {})(pair.clip)
            parts = [(outputs[n] * weights[n].reshape(outputs[n].shape)).sum() for n in weights]
            return sum(parts), outputs

        return jax.grad(loss, has_aux=True)(arrays)

    ours, our_outputs = compute(arrays)
    for name, answers in outputs.items():
        answers = answers.detach().numpy().reshape(our_outputs[name].shape)
        assert max_error(our_outputs[name], answers) <= TOLERANCE, name
    assert_same_arrays(ours, theirs, TOLERANCE)


def assert_same_twenty_steps(pair: Pair) -> None:
    """What is made of frames and sound, and the label from them, by all points."""
    import torch

    batches = []
    for seed in range(STEPS):
        clip = make_clip(pair.config, seed)
        labels = np.random.default_rng(seed).integers(pair.config.encoder.num_classes, size=3)
        batches.append(clip | {"label": labels})

    def their_loss(model, batch):
        inputs = {name: batch[name].numpy() for name in ("image", "audio")}
        made = reference.forward(model, {"inputs": inputs})
        label = torch.nn.functional.cross_entropy(made["label"][:, 0], batch["label"])
        image = made["image"] - batch["image"].flatten(1, 3)
        audio = made["audio"].flatten(1) - batch["audio"][..., 0]
        return image.square().mean() + audio.square().mean() + label

    def our_loss(model, batch):
        made = model(batch | {"label": None})
        classes = optax.softmax_cross_entropy_with_integer_labels(made["label"], batch["label"])
        image, audio = (made[name] - batch[name] for name in ("image", "audio"))
        return jnp.square(image).mean() + jnp.square(audio).mean() + classes.mean()

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


def assert_covered(module, config: PerceiverConfig, theirs: dict[str, np.ndarray]) -> None:
    rows, structure = module.rows(config), models.skeleton(config)
    ours = load(rows, theirs, wanted(structure))
    assert save(rows, ours, want=theirs).keys() == theirs.keys()
    assert sorted(tensor for row in rows for tensor in row.theirs) == sorted(theirs)


def tiny_deepmind(golden) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Settings, weights and all other arrays of the golden file."""
    with np.load(golden / f"tiny_{NAME}.npz") as file:
        arrays = dict(file)
    settings = json.loads(str(arrays.pop("config")))
    settings = {k: v for k, v in settings.items() if k not in ("name", "variant", "seed")}
    weights = {k: v for k, v in arrays.items() if k.startswith("params/")}
    return settings, weights, {k: v for k, v in arrays.items() if k not in weights}


def golden_inputs(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    clip = {"image": arrays["inputs/images"], "audio": arrays["inputs/audio"], "label": None}
    names = ("image", "audio")
    points = {name: arrays[f"inputs/subsample_{name}"][None] for name in names}
    return {"inputs": clip, "query_indices": points}
