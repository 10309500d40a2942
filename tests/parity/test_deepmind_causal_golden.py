"""perceiver_jax computes what DeepMind's Perceiver AR computed when the golden files were made.

- Theirs pads on the right and puts latents at the last tokens; ours is given the same tokens padded
  on the left. Logits of latents that stand before the first token are compared with nothing.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import export_weights, load, load_pretrained, save
from interop.formats import deepmind
from perceiver_jax import models, params
from perceiver_jax.models import ar_copy, ar_imagenet64, ar_rotary
from perceiver_jax.models.release import Release
from perceiver_jax.sampling import Sampling
from perceiver_jax.train.losses import token_losses
from tests.parity.comparison import bind, max_error, wanted

TOLERANCE = 5e-6
"""The files are float32; logits are of order 3."""
CASES = (
    "absolute_sinusoidal",
    "absolute_learned_3d",
    "rotary",
    "rotary_partial_heads",
    "rotary_terminal_relative",
    "rotary_terminal_relative_negative",
    "absolute_terminal_relative",
    "query_offset_mlp",
    "query_learned",
    "query_learned_shared_noresidual",
    "latents_per_position_2",
    "extra_cross_attends",
    "head_groups",
    "no_initial_cross",
)
FULL_SIZE = {
    "random_mirrored_32": (ar_copy(32), 26_810_627),
    "random_mirrored_131072": (ar_copy(131_072), 223_976_707),
    "imagenet64": (ar_imagenet64(), 770_094_339),
    "default_rotary": (ar_rotary(), 165_335_299),
}


@pytest.fixture(scope="module")
def file(golden):
    with np.load(golden / "tiny_perceiver_ar.npz") as found:
        arrays = dict(found)
    return json.loads(str(arrays.pop("config")))["cases"], arrays


class Case:
    """Settings, weights, inputs and outputs of one case; sequences are padded on the left."""

    def __init__(self, file, name):
        cases, arrays = file
        self.settings = {**cases[name], "task": "autoregressive"}
        start = f"params/{name}/"
        self.weights = {
            f"params/{key.removeprefix(start)}": array
            for key, array in arrays.items()
            if key.startswith(start)
        }
        events = arrays[f"inputs/{name}/events"]
        self.lengths = (events > 0).sum(1)
        self.inputs = self.on_the_left(events)
        self.positions = self.on_the_left(arrays[f"inputs/{name}/event_idxs"])
        self.logits = arrays[f"outputs/{name}/logits"]
        self.is_there = arrays[f"outputs/{name}/latent_last_steps"] >= 0

    def on_the_left(self, x):
        return np.stack([np.roll(row, -n, 0) for row, n in zip(x, self.lengths, strict=True)])

    @property
    def mask(self):
        return np.arange(self.inputs.shape[1]) >= self.inputs.shape[1] - self.lengths[:, None]

    def model(self):
        """In float64, so that only the rounding of the files is left, the same on any machine."""
        config = deepmind.config(self.settings)
        structure = models.skeleton(config)
        ours = load(deepmind.rows(config), self.weights, wanted(structure))
        return bind(structure, {path: array.astype(np.float64) for path, array in ours.items()})


@pytest.fixture
def case(file, float64):
    return lambda name: Case(file, name)


@pytest.mark.parametrize("name", CASES)
def test_tiny_models(case, name, call):
    this = case(name)
    from_data = this.settings["use_positions_from_data"]
    positions = this.positions if from_data else None
    logits = call(this.model(), this.inputs, this.mask, positions)
    assert not this.mask.all(), "nothing is padding"
    assert logits.shape == this.logits.shape
    assert max_error(logits[this.is_there], this.logits[this.is_there]) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_counted_positions_are_those_of_the_data(case, name, call):
    this = case(name)
    if this.inputs.ndim != 2 or this.positions.shape[2] > 1:
        with pytest.raises(ValueError, match="3 positions, which counting does not tell"):
            this.model()(this.inputs, this.mask)
        return
    logits = call(this.model(), this.inputs, this.mask)
    assert max_error(logits[this.is_there], this.logits[this.is_there]) <= TOLERANCE


@pytest.mark.parametrize("name", ["absolute_sinusoidal", "rotary"])
def test_cached_steps(case, file, name):
    """Theirs fills its caches with one latent, then goes on by one latent after the other."""
    this, arrays = case(name), file[1]
    rules = file[0][f"{name}/cache"]
    events = arrays[f"inputs/{name}/cache_events"]
    model, start = this.model(), rules["start"]
    mask = np.ones((1, start), bool)
    logits, _, cache = model.prefill(
        events[:, :start], mask, num_latents=1, num_steps=rules["steps"]
    )
    assert max_error(logits, arrays[f"outputs/{name}/cache_prefix_logits"][:, 0]) <= TOLERANCE
    for i in range(rules["steps"]):
        logits, _, cache = model.step(jnp.asarray(events[:, start + i]), cache)
        theirs = arrays[f"outputs/{name}/cache_step_logits"][i, :, 0]
        assert max_error(logits, theirs) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_cached_steps_are_the_call(case, name):
    """In each of their variants, with padding before the prompt."""
    this = case(name)
    # So many that the prefix fits, whatever the number of latents.
    model = this.model()
    inputs, mask, positions = (x[:, -11:] for x in (this.inputs, this.mask, this.positions))
    num_tokens = inputs.shape[1]
    start = num_tokens - 2
    if model.config.why_no_steps(embedded=model.config.abs_pos_emb):
        with pytest.raises(ValueError, match="take num_steps=0"):
            model.prefill(inputs, mask, num_latents=1, num_steps=1)
        logits, _, _ = model.prefill(inputs, mask, num_latents=1, num_steps=0)
        np.testing.assert_allclose(logits, model(inputs, mask, num_latents=1)[:, 0], atol=1e-12)
        return
    at = positions if len(model.config.position_shape or (0,)) > 1 else None
    some = None if at is None else at[:, :start]
    logits, _, cache = model.prefill(
        inputs[:, :start], mask[:, :start], some, num_latents=1, num_steps=2
    )
    for i in range(3):
        end = start + i
        whole = None if at is None else at[:, :end]
        wanted = model(inputs[:, :end], mask[:, :end], whole, num_latents=1 + i)[:, -1]
        np.testing.assert_allclose(logits, wanted, atol=1e-12)
        if end < num_tokens:
            here = None if at is None else at[:, end : end + 1]
            logits, _, cache = model.step(inputs[:, end], cache, here)


@pytest.mark.parametrize("name", CASES)
def test_round_trip(file, name):
    this = Case(file, name)
    config = deepmind.config(this.settings)
    rows = deepmind.rows(config)
    ours = load(rows, this.weights, wanted(models.skeleton(config)))
    back = save(rows, ours, want=this.weights)
    assert back.keys() == this.weights.keys()
    for tensor in this.weights:
        np.testing.assert_array_equal(back[tensor], this.weights[tensor], err_msg=tensor)
    assert deepmind.config(deepmind.settings(config)) == config


def test_a_pickle_with_arguments_beside_it(file, tmp_path):
    this = Case(file, "rotary")
    config = deepmind.config(this.settings)
    structure = models.skeleton(config)
    ours = load(deepmind.rows(config), this.weights, wanted(structure))
    release = Release(config=config, arrays=ours)
    export_weights(release, "deepmind", tmp_path / "ar.pickle")
    model = load_pretrained("deepmind", tmp_path / "ar.pickle")
    assert model.config == config
    logits = jax.jit(model.__call__)(this.inputs, this.mask, this.positions)
    assert max_error(logits[this.is_there], this.logits[this.is_there]) <= 4 * TOLERANCE


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_names_and_shapes(golden, name):
    """Every tensor of the published model has one row, both ways, and none is left over."""
    contents = json.loads((golden / f"manifest_perceiver_ar_{name}.json").read_text())
    theirs = {
        f"params/{path}": np.broadcast_to(np.zeros((), tensor["dtype"]), tensor["shape"])
        for path, tensor in contents["params"].items()
    }
    config = deepmind.config({**contents["config"], "task": "autoregressive"})
    preset, num_params = FULL_SIZE[name]
    rows, structure = deepmind.rows(config), models.skeleton(config)
    assert params.count(structure.params) == contents["num_params"] == num_params
    assert sorted(tensor for row in rows for tensor in row.theirs) == sorted(theirs)
    ours = load(rows, theirs, wanted(structure))
    assert save(rows, ours, want=theirs).keys() == theirs.keys()
    assert config == preset
    known = name == "random_mirrored_131072"
    assert (deepmind.published(theirs) == f"perceiver_ar_{name}") == known


def test_losses_and_their_gradient(file):
    arrays = file[1]
    targets = arrays["inputs/loss/targets"]

    def losses(logits):
        return token_losses(logits, targets, label_smoothing=0.1, z_loss=0.01)

    logits = jnp.asarray(arrays["inputs/sampling/logits"])
    np.testing.assert_allclose(losses(logits), arrays["outputs/loss/loss"][0], rtol=1e-6)
    gradient = jax.grad(lambda x: losses(x).sum())(logits)
    np.testing.assert_allclose(gradient, arrays["outputs/loss/grad"], atol=1e-6)


@pytest.mark.parametrize("top_p, temperature", [(0.9, 1.0), (1.0, 2.0), (0.5, 0.7)])
def test_what_is_drawn_from(file, top_p, temperature):
    """Theirs leaves tokens out before it divides by the temperature, ours after."""
    logits = jnp.asarray(file[1]["inputs/sampling/logits"])
    theirs = file[1][f"outputs/sampling/top_p{top_p}_t{temperature}"]
    left_out = theirs < -1e6
    kept = np.where(left_out, -np.inf, theirs)
    ours = Sampling(top_p=top_p).restricted(logits) / temperature
    np.testing.assert_array_equal(jnp.isneginf(ours), left_out)
    np.testing.assert_allclose(jax.nn.softmax(ours), jax.nn.softmax(kept), atol=1e-6)
