"""The autoencoder of clips against arrays made with DeepMind's code, and the names of both ports.

- The files are float32; the manifests list every name and shape of the full-size models.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import load, load_pretrained, save
from interop.formats import deepmind, huggingface
from interop.formats.deepmind import video_autoencoder as family
from interop.formats.huggingface.video_autoencoder import CLASSES
from perceiver_jax import models, params
from tests.parity.clip_pairs import NAME, assert_covered, golden_inputs, tiny_deepmind
from tests.parity.comparison import assert_same_stages, bind, max_error, wanted

pytestmark = pytest.mark.parity

TOLERANCE = 2e-5
MODALITIES = ("audio", "image", "label")


def huggingface_manifest(golden) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    path = golden.parent / "hf" / "manifest_multimodal-perceiver.json"
    if not path.exists():
        pytest.skip(f"PERCEIVER_GOLDEN has no {path.name} in a folder 'hf'")
    contents = json.loads(path.read_text())
    arrays = {
        tensor: np.broadcast_to(np.zeros((), x["dtype"]), x["shape"])
        for tensor, x in contents["tensors"].items()
    }
    return contents, arrays


def deepmind_manifest(golden) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    contents = json.loads((golden / f"manifest_{NAME}.json").read_text())
    arrays = {
        f"params/{path}": np.broadcast_to(np.zeros((), tensor["dtype"]), tensor["shape"])
        for path, tensor in contents["params"].items()
    }
    return contents, arrays


def test_full_size_names_and_shapes_of_their_manifest(golden):
    contents, theirs = huggingface_manifest(golden)
    config = huggingface.config({"architectures": list(CLASSES), **contents["config_overrides"]})
    assert_covered(huggingface, config, theirs)
    assert params.count(models.skeleton(config).params) == contents["num_parameters"]


def test_deepmind_names_become_those_of_the_manifest(golden):
    """By way of ours, every published tensor gets the name that it has on the hub."""
    contents, _ = huggingface_manifest(golden)
    preset = models.video_perceiver()
    theirs = {row.ours: row.theirs[0] for row in huggingface.rows(preset)}
    rows = deepmind.rows(preset)
    found = {row.theirs[0].removeprefix("params/"): theirs[row.ours] for row in rows}
    assert found == contents["haiku_to_hf"]


def test_full_size_names_and_shapes(golden):
    contents, theirs = deepmind_manifest(golden)
    config = deepmind.config(contents["config"])
    assert_covered(deepmind, config, theirs)
    assert params.count(models.skeleton(config).params) == contents["num_params"]
    settings = deepmind.settings(config)
    assert {name: settings[name] for name in contents["config"]} == {
        **contents["config"],
        "encoder": settings["encoder"],
    }
    assert settings["encoder"].items() >= contents["config"]["encoder"].items()


def test_the_preset_is_the_published_model(golden):
    translated = deepmind.config(deepmind_manifest(golden)[0]["config"])
    assert models.skeleton(models.video_perceiver()).params == models.skeleton(translated).params
    preset = deepmind.config(deepmind.settings(models.video_perceiver()))
    assert preset == translated


def test_the_published_file_is_recognised(golden):
    arrays = deepmind_manifest(golden)[1]
    assert deepmind.published(arrays) == "video_autoencoding_checkpoint"
    arrays[family.MASK_TOKEN] = np.zeros((1, 3), np.float32)
    assert deepmind.published(arrays) is None


def test_tiny_model(golden, float64):
    """Ours in float64, so that only the rounding of the files is left."""
    settings, weights, arrays = tiny_deepmind(golden)
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    doubles = {name: array.astype(np.float64) for name, array in weights.items()}
    ours = load(deepmind.rows(config), doubles, wanted(structure, jnp.float64))
    stages = bind(structure, ours).stages(**golden_inputs(arrays))
    last_layer = [stage for stage in stages if "/block/" in stage][-1]
    batch = (2, 1, 1)
    queries = [np.tile(stages[f"decoder/{m}/queries"], batch) for m in MODALITIES]
    found = [
        ("inputs", stages["encoder/inputs"]),
        ("cross-attention", stages["encoder/step/0/cross_attention/mlp"]),
        ("latents", stages[last_layer]),
        ("queries", np.concatenate(queries, axis=1)),
        ("audio", stages["decoder/audio/outputs"].reshape(2, -1)),
        ("image", stages["decoder/image/outputs"]),
        ("label", stages["decoder/label/outputs"][:, 0]),
    ]
    names = ("preprocessed_inputs", "encoder_cross_attention", "latents", "decoder_query")
    theirs = [(name, arrays[f"intermediates/{name}"]) for name in names]
    theirs += [(name, arrays[f"outputs/{name}"]) for name in MODALITIES]
    assert_same_stages(found, theirs, TOLERANCE)


def test_tiny_pickle_from_end_to_end(golden, tmp_path):
    """The released container, in float32, compiled; the chosen among all points."""
    settings, _, arrays = tiny_deepmind(golden)
    pickle = tmp_path / "tiny.pystate"
    pickle.write_bytes((golden / f"tiny_{NAME}.pystate").read_bytes())
    pickle.with_suffix(".json").write_text(json.dumps(settings))
    model = load_pretrained("deepmind", pickle)
    inputs = golden_inputs(arrays)
    outputs = jax.jit(model.__call__)(inputs["inputs"])
    points = inputs["query_indices"]
    image = outputs["image"].reshape(2, -1, 3)[:, points["image"][0]]
    audio = outputs["audio"].reshape(2, -1, 8)[:, points["audio"][0]].reshape(2, -1)
    assert max_error(image, arrays["outputs/image"]) <= TOLERANCE
    assert max_error(audio, arrays["outputs/audio"]) <= TOLERANCE
    assert max_error(outputs["label"], arrays["outputs/label"]) <= TOLERANCE


def test_round_trip(golden):
    settings, theirs, _ = tiny_deepmind(golden)
    config = deepmind.config(settings)
    rows = deepmind.rows(config)
    back = save(rows, load(rows, theirs, wanted(models.skeleton(config))), want=theirs)
    assert back.keys() == theirs.keys()
    for tensor in back:
        np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)
