"""perceiver_jax computes the optical flow that DeepMind's code computed for the golden files.

- The files are float32; their flow is in pixels.
- The manifests list every name and shape of the full-size model, here and at Hugging Face.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import load, load_pretrained, save
from interop.expressible import nearest
from interop.formats import deepmind, huggingface
from interop.formats.huggingface import optical_flow as huggingface_flow
from interop.references import deepmind as reference
from perceiver_jax import models, params
from perceiver_jax.adapters.optical_flow import flow_patches
from tests.parity.comparison import assert_same_stages, bind, max_error, wanted

pytestmark = pytest.mark.parity

NAME = "optical_flow"
PUBLISHED = "optical_flow_checkpoint"
TOLERANCE = 1e-5
REFERENCE_TOLERANCE = 1e-10


class Tiny:
    """A golden file."""

    def __init__(self, path):
        with np.load(path) as file:
            self.arrays = dict(file)
        settings = json.loads(str(self.arrays.pop("config")))
        self.settings = {
            name: value
            for name, value in settings.items()
            if name not in ("name", "variant", "seed")
        }
        self.weights = {k: v for k, v in self.arrays.items() if k.startswith("params/")}
        self.frames = self.arrays["inputs/frames"]
        self.flow = self.arrays["outputs/flow"]
        self.config = deepmind.config(self.settings)
        self.structure = models.skeleton(self.config)

    def ours(self):
        return load(deepmind.rows(self.config), self.weights, wanted(self.structure))

    def model(self, dtype="float32"):
        ours = {path: array.astype(dtype) for path, array in self.ours().items()}
        return bind(self.structure, ours)


@pytest.fixture
def tiny(golden):
    return Tiny(golden / f"tiny_{NAME}.npz")


@pytest.fixture
def manifest(golden):
    return json.loads((golden / f"manifest_{NAME}.json").read_text())


def zeros(tensors, prefix=""):
    """Arrays of a manifest's shapes that take no memory."""
    return {
        f"{prefix}{name}": np.broadcast_to(np.zeros((), x["dtype"]), x["shape"])
        for name, x in tensors.items()
    }


def test_tiny_model(tiny, float64):
    """Ours in float64, so that only the rounding of the file is left, the same on any machine."""
    stages = tiny.model("float64").stages(tiny.frames.astype(np.float64))
    last_layer = [stage for stage in stages if "/block/" in stage][-1]
    correspondence = {
        "encoder/inputs": "intermediates/preprocessed_inputs",
        "encoder/step/0/cross_attention/mlp": "intermediates/encoder_cross_attention",
        last_layer: "intermediates/latents",
        "decoder/queries": "intermediates/decoder_query",
        "outputs": "outputs/flow",
    }
    theirs = tiny.arrays | {"outputs/flow": tiny.flow.reshape(2, -1, 2)}
    assert_same_stages(
        [(ours, stages[ours]) for ours in correspondence],
        [(name, theirs[name]) for name in correspondence.values()],
        TOLERANCE,
    )


def test_tiny_model_compiled(tiny):
    """In float32, with the scan over layers."""
    flow = jax.jit(tiny.model().__call__)(tiny.frames)
    error = max_error(flow, tiny.flow)
    print(f"flow of order {np.abs(tiny.flow).max():.1f}: {error:.1e}")
    assert error <= TOLERANCE


def test_patches(tiny):
    np.testing.assert_array_equal(flow_patches(tiny.frames), tiny.arrays["outputs/patches"])


def test_round_trip(tiny):
    back = save(deepmind.rows(tiny.config), tiny.ours(), want=tiny.weights)
    assert back.keys() == tiny.weights.keys()
    for tensor in back:
        np.testing.assert_array_equal(back[tensor], tiny.weights[tensor], err_msg=tensor)


def test_tiny_pickle_holds_the_same_weights(tiny, golden, tmp_path):
    """The released container, with the arguments in a file beside it, from end to end."""
    pickle = tmp_path / f"{NAME}.pystate"
    pickle.write_bytes((golden / f"tiny_{NAME}.pystate").read_bytes())
    pickle.with_suffix(".json").write_text(json.dumps(tiny.settings))
    model = load_pretrained("deepmind", pickle)
    assert model.card.preprocessing is None
    assert max_error(jax.jit(model.__call__)(tiny.frames), tiny.flow) <= TOLERANCE


def test_deepmind_to_huggingface_and_back_ends_where_it_began(tiny):
    want, rows = wanted(tiny.structure), huggingface_flow.state_dict_rows(tiny.config)
    again = load(rows, save(rows, tiny.ours()), want)
    back = save(deepmind.rows(tiny.config), again, want=tiny.weights)
    for tensor in tiny.weights:
        np.testing.assert_array_equal(back[tensor], tiny.weights[tensor], err_msg=tensor)


@pytest.mark.reference
@pytest.mark.usefixtures("offline")
def test_the_reference_is_deepminds_function(tiny):
    flow = reference.run(tiny.settings, tiny.weights, {"inputs": tiny.frames})[-1][1]
    error = max_error(flow, tiny.flow.reshape(2, -1, 2))
    print(f"flow of order {np.abs(tiny.flow).max():.1f}: {error:.1e}")
    assert error <= TOLERANCE


@pytest.mark.reference
@pytest.mark.usefixtures("offline")
def test_stages_of_the_reference(tiny, torch_float64):
    weights = {name: array.astype(np.float64) for name, array in tiny.weights.items()}
    given = {"inputs": tiny.frames.astype(np.float64)}
    want = wanted(tiny.structure, jnp.float64)
    ours = bind(tiny.structure, load(deepmind.rows(tiny.config), weights, want)).stages(**given)
    theirs = reference.run(tiny.settings, weights, given)
    assert list(ours) == [stage for stage, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, REFERENCE_TOLERANCE)


def test_full_size_names_and_shapes(manifest):
    """Every tensor of the published model has one row, both ways, and none is left over."""
    theirs = zeros(manifest["params"], "params/")
    config = deepmind.config(manifest["config"])
    rows, structure = deepmind.rows(config), models.skeleton(config)
    assert manifest["state"] == {}
    assert params.count(structure.params) == manifest["num_params"] == 41_057_134
    assert save(rows, load(rows, theirs, wanted(structure)), want=theirs).keys() == theirs.keys()
    assert sorted(tensor for row in rows for tensor in row.theirs) == sorted(theirs)


def test_the_published_model_is_recognised(tiny, manifest):
    arrays = zeros(manifest["params"], "params/")
    assert deepmind.published(arrays) == PUBLISHED
    arrays["params/image_preprocessor/patches_linear/b"] = np.zeros(32, np.float32)
    assert deepmind.published(arrays) is None
    assert deepmind.published(tiny.weights) is None


def test_the_preset_is_the_published_model(manifest):
    preset = models.optical_flow_perceiver()
    translated = deepmind.config(manifest["config"])
    assert models.skeleton(preset).params == models.skeleton(translated).params
    for field in ("rescale_factor", "flow_scale", "cross_attention_residual", "activation"):
        assert getattr(preset.decoder, field) == getattr(translated.decoder, field)
    resolution = tuple(map(float, preset.encoder.image_shape))
    assert preset.encoder.max_resolution is None
    assert translated.encoder.max_resolution == resolution


def test_names_and_shapes_at_huggingface(golden, manifest):
    """By way of ours, every published tensor gets the name that it has on the hub."""
    path = golden.parent / "hf" / "manifest_optical-flow-perceiver.json"
    if not path.exists():
        pytest.skip(f"PERCEIVER_GOLDEN has no {path.name} in a folder 'hf'")
    contents = json.loads(path.read_text())
    theirs = zeros(contents["tensors"])
    settings = {"architectures": [contents["hf_class"].rpartition(".")[2]]}
    config = huggingface.config(settings | contents["config_overrides"])
    rows, structure = huggingface.rows(config), models.skeleton(config)
    assert params.count(structure.params) == contents["num_parameters"]
    assert save(rows, load(rows, theirs, wanted(structure)), want=theirs).keys() == theirs.keys()

    published, changes = nearest(huggingface, models.optical_flow_perceiver())
    assert not changes
    names = {row.ours: row.theirs[0] for row in huggingface.rows(published)}
    found = {
        row.theirs[0].removeprefix("params/"): names[row.ours] for row in deepmind.rows(published)
    }
    assert found == contents["haiku_to_hf"]
