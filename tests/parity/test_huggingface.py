"""perceiver_jax computes what Hugging Face's image classifiers compute, and exchanges weights.

- Tiny random models of their own classes in float64; 64 frequency bands, 64 channels of a stem and
  256 of learned positions stand in their code.
- DeepMind's function, put together from their modules, is held against DeepMind's files.
"""

import dataclasses
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interop import load, save
from interop.expressible import nearest
from interop.foreign import Foreign
from interop.formats import deepmind, huggingface
from interop.formats.huggingface import image_classifier
from interop.formats.huggingface.config_json import ACTIVATIONS
from interop.references import deepmind as deepmind_reference
from interop.references import huggingface as reference
from perceiver_jax import models, params
from perceiver_jax.card import ImagePreprocessing
from perceiver_jax.core.mlp import activate
from perceiver_jax.data.preprocessing import preprocess
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

pytestmark = [pytest.mark.parity, pytest.mark.reference, pytest.mark.usefixtures("offline")]

TOLERANCE = 1e-10
LEARNED, FOURIER, CONV = image_classifier.CLASSES
PUBLISHED = {LEARNED: "learned", FOURIER: "fourier", CONV: "conv"}
TINY = {
    "num_latents": 3,
    "d_latents": 8,
    "num_blocks": 2,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1,
    "num_labels": 5,
}
SIZES = {
    LEARNED: {"image_size": 4},
    FOURIER: {"image_shape": [4, 5, 3]},
    CONV: {"image_shape": [12, 15, 3]},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # name: (class, settings)
    "learned": (LEARNED, {}),
    "fourier": (FOURIER, {}),
    "conv": (CONV, {}),
    "tanh form of GELU": (CONV, {"hidden_act": "gelu_pytorch_tanh"}),
    "no residual": (FOURIER, {"use_query_residual": False}),
    "shape of the queries": (
        FOURIER,
        {
            "cross_attention_shape_for_attention": "q",
            "num_cross_attention_heads": 4,
            "cross_attention_widening_factor": 2,
        },
    ),
    "channels of their own": (
        LEARNED,
        {
            "qk_channels": 4,
            "v_channels": 8,
            "num_cross_attention_heads": 2,
            "self_attention_widening_factor": 3,
        },
    ),
    "values of the latents' channels": (FOURIER, {"v_channels": 8}),
    "twelve layers": (CONV, {"num_self_attends_per_block": 12, "num_blocks": 1}),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The reference with random weights, and our model's structure."""

    model: Any
    config: PerceiverConfig
    structure: Skeleton
    images: np.ndarray

    @property
    def rows(self):
        return huggingface.rows(self.config)


def make_pair(name: str, dtype: str = "float64") -> Pair:
    architecture, changes = CASES[name]
    settings = {"architectures": [architecture], **TINY, **SIZES[architecture], **changes}
    model = reference.build(settings)
    torch_models.randomise(model, seed=len(name))
    config = huggingface.config(settings)
    shape = (3, *config.encoder.image_shape)
    images = np.random.default_rng(0).normal(size=shape).astype(dtype)
    return Pair(model, config, models.skeleton(config), images)


def make_mask(pair: Pair) -> np.ndarray:
    """[B, M] True = a token; the last image has none."""
    height, width, _ = pair.config.encoder.image_shape
    num_tokens = 6 if pair.config.encoder.preprocessing == "conv" else height * width
    mask = np.random.default_rng(1).random((len(pair.images), num_tokens)) < 0.6
    mask[0, 0], mask[-1] = True, False
    return mask


@pytest.mark.parametrize(
    ("name", "masked"),
    [(name, False) for name in CASES] + [(name, True) for name in ("learned", "fourier", "conv")],
)
def test_stages(torch_float64, name, masked):
    pair = make_pair(name)
    inputs = {"inputs": pair.images} | ({"input_mask": make_mask(pair)} if masked else {})
    arrays = load(pair.rows, torch_models.state(pair.model), wanted(pair.structure, jnp.float64))
    ours = bind(pair.structure, arrays).stages(**inputs)
    theirs = reference.stages(pair.model, inputs)
    assert list(ours) == [stage for stage, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(torch_float64, name):
    """The compiled model, which scans the repeated and deep layers that stages write out.

    Every image has a token: where all are masked, theirs sends gradients through scores that have
    no influence on the output, because it adds the mask to them.
    """
    import torch

    pair = make_pair(name)
    mask = make_mask(pair)
    mask[-1, 0] = True
    want = wanted(pair.structure, jnp.float64)
    arrays = load(pair.rows, torch_models.state(pair.model), want)
    stats = {path: arrays[path] for path in pair.structure.stats}

    outputs = reference.forward(pair.model, {"inputs": pair.images, "input_mask": mask})
    weights = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(weights)).sum().backward()
    trained = [row for row in pair.rows if not set(row.ours) & stats.keys()]
    theirs = load(
        trained,
        torch_models.gradients(pair.model),
        {path: want[path] for path in pair.structure.params},
    )

    @partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def compute(arrays):
        def loss(arrays):
            outputs = pair.structure.bind(arrays, stats)(pair.images, mask)
            return (outputs * weights).sum(), outputs

        return jax.grad(loss, has_aux=True)(arrays)

    ours, our_outputs = compute({path: arrays[path] for path in pair.structure.params})
    assert max_error(our_outputs, outputs.detach()) <= TOLERANCE
    assert_same_arrays(ours, theirs, TOLERANCE)


def test_twenty_steps_of_training(torch_float64):
    """Batch norms keep their statistics, which torch averages in another way."""
    import torch

    pair = make_pair("conv")
    rng = np.random.default_rng(4)
    batches = [
        {"images": rng.normal(size=pair.images.shape), "labels": rng.integers(0, 5, 3)}
        for _ in range(STEPS)
    ]

    def their_loss(model, batch):
        images = batch["images"].movedim(-1, 1).contiguous()
        logits = model(inputs=images).logits
        return torch.nn.functional.cross_entropy(logits, batch["labels"])

    def our_loss(model, batch):
        logits = model(batch["images"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize("name", ["learned", "fourier", "conv", "channels of their own"])
def test_round_trip(name):
    """Theirs → ours → theirs is exact, and the class itself takes the result."""
    import torch

    pair = make_pair(name, dtype="float32")
    theirs = torch_models.state(pair.model)
    ours = load(pair.rows, theirs, wanted(pair.structure))
    back = save(pair.rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    for tensor in back:
        np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)

    torch_models.randomise(pair.model, seed=99)
    tensors = {tensor: torch.from_numpy(array.copy()) for tensor, array in back.items()}
    pair.model.load_state_dict(tensors, strict=True)
    again = load(pair.rows, torch_models.state(pair.model), wanted(pair.structure))
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


@pytest.mark.parametrize("name", ["learned", "fourier", "conv"])
def test_an_exported_folder_loads_with_from_pretrained(tmp_path, name):
    import torch
    import transformers

    pair = make_pair(name, dtype="float32")
    arrays = random_arrays(pair.structure)
    labels = tuple(f"kind {i}" for i in range(5))
    height, width, _ = pair.config.encoder.image_shape
    how = ImagePreprocessing(
        image_shape=(height, width, 3), crop=1 / 2, mean=(0.1, 0.2, 0.3), resampling="pillow"
    )
    foreign = Foreign(
        arrays=save(pair.rows, arrays),
        settings=huggingface.settings(pair.config),
        labels=labels,
        preprocessing=how,
    )
    huggingface.write(tmp_path / "model", foreign)

    with reference.quiet():
        model, report = getattr(transformers, CASES[name][0]).from_pretrained(
            tmp_path / "model", output_loading_info=True
        )
    assert not any(report.values()), report
    assert model.config.id2label == dict(enumerate(labels))
    with torch.no_grad(), reference.quiet():
        pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pair.images, -1, 1)))
        theirs = model.eval()(inputs=pixels).logits.numpy()
    error = max_error(bind(pair.structure, arrays)(pair.images), theirs)
    print(f"logits of order {np.abs(theirs).max():.1f}: {error:.1e}")
    assert error <= 1e-5

    again = huggingface.read(tmp_path / "model")
    assert (again.labels, again.preprocessing) == (labels, how)
    assert huggingface.config(again.settings) == pair.config
    if name == "fourier":
        processor = transformers.PerceiverImageProcessorPil.from_pretrained(tmp_path / "model")
        picture = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
        theirs = processor(picture, return_tensors="np")["pixel_values"][0]
        assert max_error(preprocess(picture, how), np.moveaxis(theirs, 0, -1)) <= 1e-5


def random_arrays(structure: Skeleton) -> dict[str, np.ndarray]:
    """Arrays of a model, norms, biases and variances positive."""
    rng = np.random.default_rng(3)
    return {
        path: (rng.uniform(-0.3, 0.3, x.shape) + 0.5 * (len(x.shape) == 1)).astype(x.dtype)
        if x.shape
        else np.asarray(7, x.dtype)
        for path, x in (structure.params | structure.stats).items()
    }


@pytest.mark.parametrize("sharded", [False, True], ids=["", "sharded"])
def test_a_folder_that_the_class_saved_is_read(tmp_path, sharded):
    pair = make_pair("conv", dtype="float32")
    with reference.quiet():
        pair.model.save_pretrained(tmp_path, max_shard_size="20KB" if sharded else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == sharded
    found = huggingface.read(tmp_path)
    assert found.labels == ()
    config = huggingface.config(found.settings)
    assert config == pair.config
    arrays = load(huggingface.rows(config), found.arrays, wanted(pair.structure))
    theirs = reference.stages(pair.model, {"inputs": pair.images})[-1][1]
    assert max_error(bind(pair.structure, arrays)(pair.images), theirs) <= 1e-5


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_full_size_names_and_shapes_of_the_installed_class(architecture):
    """Every tensor of the class has one row, both ways, and none is left over."""
    import torch

    settings = {
        "architectures": [architecture],
        "num_latents": 512,
        "d_latents": 1024,
        "num_blocks": 8,
        "num_self_attends_per_block": 6,
        "num_cross_attention_heads": 1,
        "image_size": 224,
        "num_labels": 1000,
    }
    with torch.device("meta"):
        theirs = {
            tensor: np.broadcast_to(np.zeros((), str(x.dtype).removeprefix("torch.")), x.shape)
            for tensor, x in reference.build(settings).state_dict().items()
        }
    assert_covered(huggingface.config(settings), theirs)


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_full_size_names_and_shapes_of_the_manifest(golden, architecture):
    contents, theirs = manifest(golden, architecture)
    settings = {"architectures": [architecture], **contents["config_overrides"]}
    config = huggingface.config(settings)
    assert_covered(config, theirs)
    assert params.count(models.skeleton(config).params) == contents["num_parameters"]


def manifest(golden, architecture):
    """Settings of a full-size model, and zeros of its shapes that take no memory."""
    path = golden.parent / "hf" / f"manifest_vision-perceiver-{PUBLISHED[architecture]}.json"
    if not path.exists():
        pytest.skip(f"PERCEIVER_GOLDEN has no {path.name} in a folder 'hf'")
    contents = json.loads(path.read_text())
    arrays = {
        tensor: np.broadcast_to(np.zeros((), x["dtype"]), x["shape"])
        for tensor, x in contents["tensors"].items()
    }
    return contents, arrays


def assert_covered(config: PerceiverConfig, theirs: dict[str, np.ndarray]) -> None:
    rows, structure = huggingface.rows(config), models.skeleton(config)
    ours = load(rows, theirs, wanted(structure))
    assert save(rows, ours, want=theirs).keys() == theirs.keys()
    assert sorted(tensor for row in rows for tensor in row.theirs) == sorted(theirs)


@pytest.mark.parametrize(
    ("architecture", "preset"),
    [
        (LEARNED, models.imagenet_learned),
        (FOURIER, models.imagenet_fourier),
        (CONV, models.imagenet_conv),
    ],
)
def test_deepmind_names_become_those_of_the_manifest(golden, architecture, preset):
    """By way of ours, every published tensor gets the name that it has on the hub."""
    contents, _ = manifest(golden, architecture)
    config, _ = nearest(huggingface, preset())
    theirs = {row.ours: row.theirs[0] for row in huggingface.rows(config)}
    found = {
        row.theirs[0].removeprefix("params/"): theirs[row.ours]
        for row in deepmind.rows(preset())
        if row.theirs[0].startswith("params/")
    }
    expected = contents["haiku_to_hf"]
    assert found == {name: expected[name] for name in found}
    assert {name for name in expected if not name.startswith("image_preprocessor")} <= found.keys()


TINY_DEEPMIND = [
    "imagenet_fourier_position_encoding",
    "imagenet_learned_position_encoding",
    "imagenet_conv_preprocessing",
]


def tiny_deepmind(golden, name):
    """Settings, weights, images and logits of a golden file."""
    with np.load(golden / f"tiny_{name}.npz") as file:
        arrays = dict(file)
    settings = json.loads(str(arrays.pop("config")))
    settings = {k: v for k, v in settings.items() if k not in ("name", "variant", "seed")}
    weights = {k: v for k, v in arrays.items() if k.startswith(("params/", "state/"))}
    return settings, weights, arrays["inputs/images"], arrays["outputs/logits"]


@pytest.mark.parametrize("name", TINY_DEEPMIND)
def test_the_deepmind_reference_is_deepminds_function(golden, name):
    settings, weights, images, logits = tiny_deepmind(golden, name)
    stages = deepmind_reference.run(settings, weights, {"inputs": images})
    error = max_error(stages[-1][1], logits)
    print(f"{name}: {error:.1e}")
    assert error <= 1e-5


@pytest.mark.parametrize("name", TINY_DEEPMIND)
def test_stages_of_the_deepmind_reference(golden, torch_float64, name):
    settings, weights, images, _ = tiny_deepmind(golden, name)
    weights = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in weights.items()}
    images = images.astype(np.float64)
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    arrays = load(deepmind.rows(config), weights, wanted(structure, jnp.float64))
    ours = bind(structure, arrays).stages(images)
    theirs = deepmind_reference.run(settings, weights, {"inputs": images})
    assert list(ours) == [stage for stage, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", TINY_DEEPMIND)
def test_deepmind_to_huggingface_and_back_ends_where_it_began(golden, name):
    """Counters of batch norms included; biased averages are made anew."""
    settings, weights, _, _ = tiny_deepmind(golden, name)
    config = deepmind.config(settings)
    ours = load(deepmind.rows(config), weights, wanted(models.skeleton(config)))
    rows = image_classifier.state_dict_rows(config)
    again = load(rows, save(rows, ours), wanted(models.skeleton(config)))
    back = save(deepmind.rows(config), again, want=weights)
    for tensor in weights:
        if not tensor.endswith("/hidden"):
            np.testing.assert_array_equal(back[tensor], weights[tensor], err_msg=tensor)


@pytest.mark.parametrize("hidden_act", ACTIVATIONS)
def test_activations_are_the_ones_named(torch_float64, hidden_act):
    import torch
    from transformers.activations import ACT2FN

    x = np.linspace(-6.0, 6.0, 1001)
    theirs = ACT2FN[hidden_act](torch.from_numpy(x))
    assert max_error(activate(jnp.asarray(x), ACTIVATIONS[hidden_act]), theirs) <= 1e-14
