"""perceiver_jax computes what DeepMind's language model computed when the golden files were made.

- The files are float32; weights go through the table of rows.
- The manifest lists every name and shape of the full-size model.
"""

import json
from typing import Any

import jax
import numpy as np
import pytest

from interop import load, load_pretrained, save
from interop.formats import deepmind
from perceiver_jax import models, params
from perceiver_jax.card import TextPreprocessing
from tests.parity.comparison import assert_same_stages, bind, max_error, wanted

NAME = "language_perceiver_io_bytes"
TOLERANCE = 2e-5
"""Logits are of order 25."""
NOT_SETTINGS = ("name", "variant", "seed")


@pytest.fixture
def tiny(golden) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Settings and arrays of the golden file."""
    with np.load(golden / f"tiny_{NAME}.npz") as file:
        arrays = dict(file)
    settings = json.loads(str(arrays.pop("config")))
    return {k: v for k, v in settings.items() if k not in NOT_SETTINGS}, arrays


@pytest.fixture
def manifest(golden) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Settings of the full-size model, and zeros of its shapes that take no memory."""
    contents = json.loads((golden / f"manifest_{NAME}.json").read_text())
    arrays = {
        f"params/{path}": np.broadcast_to(np.zeros((), tensor["dtype"]), tensor["shape"])
        for path, tensor in contents["params"].items()
    }
    return contents, arrays


def weights(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: v for k, v in arrays.items() if k.startswith("params/")}


def texts(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    mask = arrays["inputs/input_mask"].astype(bool)
    return {"inputs": arrays["inputs/tokens"], "input_mask": mask}


def test_tiny_model(tiny, float64):
    """Ours in float64, so that only the rounding of the files is left, the same on any machine."""
    settings, arrays = tiny
    assert not texts(arrays)["input_mask"].all(), "nothing is padding"
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    ours = load(deepmind.rows(config), weights(arrays), wanted(structure))
    model = bind(structure, {path: array.astype(np.float64) for path, array in ours.items()})
    stages = model.stages(**texts(arrays))
    last_layer = [stage for stage in stages if "/block/" in stage][-1]
    correspondence = {
        "encoder/inputs": "outputs/embeddings_in",
        "encoder/step/0/cross_attention/mlp": "intermediates/encoder_cross_attention",
        last_layer: "intermediates/latents",
        "decoder/queries": "intermediates/decoder_query",
        "decoder/cross_attention/mlp": "outputs/embeddings_out",
        "outputs": "outputs/logits",
    }
    assert_same_stages(
        [(ours, stages[ours]) for ours in correspondence],
        [(theirs, arrays[theirs]) for theirs in correspondence.values()],
        TOLERANCE,
    )


def test_shorter_texts_are_answered_as_if_padded(tiny):
    """DeepMind always pads; ours asks for as many positions as there are."""
    settings, arrays = tiny
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    model = bind(structure, load(deepmind.rows(config), weights(arrays), wanted(structure)))
    mask = texts(arrays)["input_mask"]
    shortest = mask.sum(1).argmin()
    length = int(mask[shortest].sum())
    assert length < mask.shape[1]
    got = model(arrays["inputs/tokens"][shortest : shortest + 1, :length])
    assert max_error(got[0], arrays["outputs/logits"][shortest, :length]) <= TOLERANCE


def test_the_pickle_holds_the_same_weights(golden, tiny, tmp_path):
    """The released container, with the arguments in a file beside it, from end to end."""
    settings, arrays = tiny
    pickle = tmp_path / f"{NAME}.pickle"
    pickle.write_bytes((golden / f"tiny_{NAME}.pickle").read_bytes())
    pickle.with_suffix(".json").write_text(json.dumps(settings))
    model = load_pretrained("deepmind", pickle)
    predict = jax.jit(model.__call__)
    assert max_error(predict(**texts(arrays)), arrays["outputs/logits"]) <= TOLERANCE
    assert model.card.text == TextPreprocessing(tokenizer="bytes", add_special_tokens=False)
    assert model.card.preprocessing is None


def test_round_trip(tiny):
    settings, arrays = tiny
    config = deepmind.config(settings)
    rows, theirs = deepmind.rows(config), weights(arrays)
    back = save(rows, load(rows, theirs, wanted(models.skeleton(config))), want=theirs)
    assert back.keys() == theirs.keys()
    for tensor in theirs:
        np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)


def test_full_size_names_and_shapes(manifest):
    """Every tensor of the published model has one row, both ways, and none is left over."""
    contents, theirs = manifest
    config = deepmind.config(contents["config"])
    rows, structure = deepmind.rows(config), models.skeleton(config)
    assert params.count(structure.params) == contents["num_params"] == 201_108_230
    ours = load(rows, theirs, wanted(structure))
    assert save(rows, ours, want=theirs).keys() == theirs.keys()
    assert sorted(tensor for row in rows for tensor in row.theirs) == sorted(theirs)


def test_the_published_model_is_recognised(manifest, tiny):
    """By names and shapes, which no other model shares; a file says no more."""
    arrays = manifest[1]
    assert deepmind.published(arrays) == NAME
    arrays["params/embed/embeddings"] = np.zeros((4, 768))
    assert deepmind.published(arrays) is None
    assert deepmind.published(weights(tiny[1])) is None


def test_the_preset_is_the_published_model(manifest):
    """The config by our name and the one translated from DeepMind's arguments make one model."""
    preset, translated = models.language_perceiver(), deepmind.config(manifest[0]["config"])
    assert models.skeleton(preset).params == models.skeleton(translated).params
    assert preset.decoder == translated.decoder
    for field in ("num_cross_attention_heads", "num_self_attention_heads", "activation"):
        assert getattr(preset.encoder, field) == getattr(translated.encoder, field)
