"""perceiver_jax computes what Hugging Face's resamplers compute, and exchanges weights.

- Tiny random models of their own classes in float64: of Idefics2, whose RMS norms are computed
  in float64 too, alone and behind its projection; and of the first IDEFICS.
- IDEFICS takes no mask, so each example is given to it without its padding.
"""

import dataclasses
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import export_pretrained, load, load_pretrained, save
from interop.formats import hub_folder, huggingface
from interop.formats.huggingface import idefics, idefics2
from interop.references import huggingface as reference
from interop.references import resamplers
from perceiver_jax import models, params
from perceiver_jax.models import ResamplerConfig
from perceiver_jax.models.release import Release
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
NUM_CHANNELS, NUM_FEATURES, NUM_LATENTS = 16, 7, 3
HEADS = {
    "resampler_n_latents": NUM_LATENTS,
    "resampler_depth": 2,
    "resampler_n_heads": 4,
    "resampler_head_dim": 6,
}
CASES: dict[str, dict[str, Any]] = {
    **{
        f"Idefics2, groups of {4 // num_kv_heads}": {"num_key_value_heads": num_kv_heads}
        for num_kv_heads in (4, 2, 1)
    },
    "Idefics2, exact GELU": {"hidden_act": "gelu", "rms_norm_eps": 1e-2, "num_key_value_heads": 2},
    "Idefics2, twelve layers": {"resampler_depth": 12, "num_key_value_heads": 2},
    "Idefics2, projected": {"num_key_value_heads": 2},
    "IDEFICS": {},
    "IDEFICS, normed heads": {"qk_layer_norms_perceiver": True},
    "IDEFICS, twelve layers": {"qk_layer_norms_perceiver": True, "resampler_depth": 12},
}
TEXT = {
    "model_type": "mistral",
    "hidden_size": NUM_CHANNELS,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 11,
}
VISION = {
    "hidden_size": 10,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def settings_of(name: str) -> dict[str, Any]:
    perceiver = HEADS | CASES[name]
    if name.startswith("IDEFICS"):
        return {
            "architectures": [idefics.ALONE],
            "use_resampler": True,
            "vision_config": {"embed_dim": NUM_CHANNELS},
            "perceiver_config": perceiver,
        }
    perceiver |= {"hidden_size": NUM_CHANNELS}
    if name == "Idefics2, projected":
        return {
            "architectures": [idefics2.CONNECTOR],
            "perceiver_config": perceiver,
            "text_config": TEXT,
            "vision_config": VISION,
        }
    return {"architectures": [idefics2.ALONE], **perceiver}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The reference with random weights, and our model's structure."""

    model: Any
    config: ResamplerConfig
    structure: Skeleton

    @property
    def rows(self):
        return huggingface.rows(self.config)

    def ours_from(self, theirs):
        return load(self.rows, theirs, wanted(self.structure, jnp.float64))


def make_pair(name: str) -> Pair:
    settings = settings_of(name)
    model = reference.build(settings)
    torch_models.randomise(model, seed=len(name))
    config = huggingface.config(settings)
    return Pair(model, config, models.skeleton(config))


def make_features(config: ResamplerConfig, *, seed: int, masked: bool = True) -> dict[str, Any]:
    """Features, and a mask of which every example has one."""
    rng = np.random.default_rng(seed)
    channels = config.num_input_channels or config.num_latent_channels
    features = {"inputs": rng.normal(size=(3, NUM_FEATURES, channels))}
    if not masked:
        return features
    lengths = np.asarray([NUM_FEATURES, *rng.integers(1, NUM_FEATURES, 2)])
    return features | {"input_mask": np.arange(NUM_FEATURES)[None] < lengths[:, None]}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_stages(torch_float64, name, masked):
    """Latents after every attention and every MLP; with an example that is masked out whole."""
    pair = make_pair(name)
    features = make_features(pair.config, seed=0, masked=masked)
    if masked:
        features["input_mask"][-1] = False
    ours = bind(pair.structure, pair.ours_from(torch_models.state(pair.model))).stages(**features)
    theirs = reference.stages(pair.model, features)
    num_layers = pair.config.num_layers
    parts = [f"layer/{i}/{part}" for i in range(num_layers) for part in ("attention", "mlp")]
    assert list(ours) == [stage for stage, _ in theirs] == ["inputs", *parts, "outputs"]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(torch_float64, name):
    import torch

    pair = make_pair(name)
    features = make_features(pair.config, seed=1)
    outputs = reference.forward(pair.model, features)
    weights = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(weights)).sum().backward()

    @partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def compute(arrays):
        def loss(arrays):
            outputs = bind(pair.structure, arrays)(**features)
            return (outputs * weights).sum(), outputs

        return jax.grad(loss, has_aux=True)(arrays)

    ours, our_outputs = compute(pair.ours_from(torch_models.state(pair.model)))
    assert max_error(our_outputs, outputs.detach()) <= TOLERANCE
    assert_same_arrays(ours, pair.ours_from(torch_models.gradients(pair.model)), TOLERANCE)


@pytest.mark.parametrize("name", ["Idefics2, projected", "IDEFICS, normed heads"])
def test_twenty_steps_of_training(torch_float64, name):
    pair = make_pair(name)
    batches = []
    for i in range(STEPS):
        features = make_features(pair.config, seed=10 + i)
        targets = np.random.default_rng(i).normal(size=(3, NUM_LATENTS, NUM_CHANNELS))
        batches.append({**features, "targets": targets})

    def their_loss(model, batch):
        features = {name: batch[name].numpy() for name in ("inputs", "input_mask")}
        return ((reference.forward(model, features) - batch["targets"]) ** 2).mean()

    def our_loss(model, batch):
        return ((model(batch["inputs"], batch["input_mask"]) - batch["targets"]) ** 2).mean()

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name):
    """Theirs → ours → theirs is exact, and the class itself takes the result."""
    import torch

    pair = make_pair(name)
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


def released(pair: Pair) -> Release:
    rng = np.random.default_rng(3)
    arrays = {
        path: (rng.uniform(-0.3, 0.3, x.shape) + 0.5 * (len(x.shape) == 1)).astype(x.dtype)
        for path, x in pair.structure.params.items()
    }
    return Release(config=pair.config, arrays=arrays)


@pytest.mark.parametrize("name", CASES)
def test_an_exported_folder_loads_in_their_class(tmp_path, name):
    """With `from_pretrained` where it has that, and else from the folder's settings and weights."""
    from transformers import AutoConfig
    from transformers.models.idefics2.modeling_idefics2 import Idefics2PerceiverResampler

    pair = make_pair(name)
    features = make_features(pair.config, seed=1)
    features["inputs"] = features["inputs"].astype(np.float32)
    model: Any = released(pair).model()
    remarks = export_pretrained(model, "huggingface", tmp_path / "model").remarks
    assert bool(remarks) == name.startswith("IDEFICS")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    with reference.quiet():
        assert AutoConfig.from_pretrained(tmp_path / "model").model_type == settings["model_type"]
        if settings["architectures"] == [idefics2.ALONE]:
            theirs, report = Idefics2PerceiverResampler.from_pretrained(
                tmp_path / "model", output_loading_info=True
            )
            assert not any(report.values()), report
        else:
            theirs = reference.build(settings)
            reference.load_arrays(theirs, hub_folder.weights(tmp_path / "model"))
    assert max_error(model(**features), reference.stages(theirs.eval(), features)[-1][1]) <= 1e-5
    again = load_pretrained("huggingface", tmp_path / "model")
    assert again.config == dataclasses.replace(pair.config, init_scale=again.config.init_scale)
    np.testing.assert_array_equal(again(**features), model(**features))


def test_a_folder_that_the_class_saved_is_read(tmp_path):
    pair = make_pair("Idefics2, groups of 2")
    features = make_features(pair.config, seed=1)
    features["inputs"] = features["inputs"].astype(np.float32)
    with reference.quiet():
        pair.model.save_pretrained(tmp_path)
    model = load_pretrained("huggingface", tmp_path)
    assert model.config == pair.config
    assert max_error(model(**features), reference.stages(pair.model, features)[-1][1]) <= 1e-5


def whole_idefics2() -> Any:
    import transformers

    settings = settings_of("Idefics2, projected")
    config = transformers.Idefics2Config(
        **{name: settings[name] for name in ("perceiver_config", "text_config", "vision_config")},
        image_token_id=1,
    )
    return transformers.Idefics2ForConditionalGeneration(config)


def whole_idefics() -> Any:
    import transformers

    settings = settings_of("IDEFICS, normed heads")
    config = transformers.IdeficsConfig(
        use_resampler=True,
        perceiver_config=settings["perceiver_config"],
        vision_config=VISION | {"hidden_size": NUM_CHANNELS},
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return transformers.IdeficsForVisionText2Text(config)


WHOLE = {
    # name: (the whole model, its part, the part's name)
    "Idefics2": (whole_idefics2, lambda model: model.model.connector, "model.connector"),
    "IDEFICS": (
        whole_idefics,
        lambda model: model.model.perceiver_resampler,
        "model.perceiver_resampler",
    ),
}


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_of_a_whole_model_the_resampler_alone_is_read(tmp_path, name, sharded):
    """Shards that hold nothing of it may be missing."""
    make, part_of, where = WHOLE[name]
    with reference.quiet():
        whole = make().eval()
        torch_models.randomise(whole, seed=1)
        whole.save_pretrained(tmp_path, max_shard_size="4KB" if sharded else "1GB")
    if sharded:
        index = json.loads((tmp_path / hub_folder.INDEX).read_text())["weight_map"]
        needed = {file for tensor, file in index.items() if tensor.startswith(where)}
        others = set(index.values()) - needed
        assert others
        for file in others:
            (tmp_path / file).unlink()
    model = load_pretrained("huggingface", tmp_path)
    assert model.card.origin == f"huggingface: {tmp_path.name}, {where} alone"
    features = make_features(model.config, seed=1)
    features["inputs"] = features["inputs"].astype(np.float32)
    theirs = reference.stages(part_of(whole), features)[-1][1]
    assert max_error(model(**features), theirs) <= 1e-5


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"architectures": [idefics2.ALONE]}, 651_468_800),
        (
            {
                "architectures": [idefics2.CONNECTOR],
                "vision_config": {"hidden_size": 1152},
                "perceiver_config": {"rms_norm_eps": 1e-5},
            },
            743_219_200,
        ),
        (
            {
                "architectures": [idefics.ALONE],
                "use_resampler": True,
                "vision_config": {"embed_dim": 1280},
                "perceiver_config": {"use_resampler": True, "qk_layer_norms_perceiver": True},
            },
            125_961_984,
        ),
    ],
)
def test_full_size_names_and_numbers(settings, count):
    """Every tensor of the class has one row, and the parameters are as many."""
    import torch

    with torch.device("meta"):
        theirs = {name: x.numel() for name, x in reference.build(settings).state_dict().items()}
    config = huggingface.config(settings)
    names = [name for row in huggingface.rows(config) for name in row.theirs]
    assert sorted(names) == sorted(theirs)
    assert params.count(models.skeleton(config).params) == sum(theirs.values()) == count


def test_the_preset_is_the_reference_by_default():
    settings = {"architectures": [idefics2.ALONE]}
    ours = dataclasses.replace(models.idefics2_resampler(), init_scale=0.02)
    assert huggingface.config(settings) == ours


def test_without_float64_their_norms_stay_as_they_are():
    model = reference.build(settings_of("Idefics2, groups of 2"))
    assert not model.norm._forward_hooks
    assert resamplers.is_resampler(model)
