"""perceiver_jax computes what DeepMind's code computed when the golden files were made.

- The files are float32; weights go through the table of rows.
- The manifests list every name and shape of the full-size models.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from interop import load, load_pretrained, save
from interop.formats import deepmind
from interop.formats.deepmind import layers
from interop.rows import Row
from perceiver_jax import models, params
from perceiver_jax.adapters.conv_stem import ConvStem
from perceiver_jax.adapters.image import space_to_depth
from perceiver_jax.core import AttentionConfig, CrossAttentionLayer, MLPConfig, SelfAttentionLayer
from perceiver_jax.core.decoder import MeanPoolHead
from perceiver_jax.core.dense import attend
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.position import fourier_axes, fourier_features
from perceiver_jax.core.tokens import Tokens
from tests.parity.comparison import (
    assert_same_stages,
    bind,
    max_error,
    wanted,
)

TOLERANCE = 1e-5
IMAGENET = {
    "imagenet_fourier_position_encoding": models.imagenet_fourier,
    "imagenet_learned_position_encoding": models.imagenet_learned,
    "imagenet_conv_preprocessing": models.imagenet_conv,
}
NOT_SETTINGS = ("name", "variant", "seed")


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def tiny_model(golden: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Settings and arrays of a golden file."""
    arrays = read(golden / f"tiny_{name}.npz")
    settings = json.loads(str(arrays.pop("config")))
    return {k: v for k, v in settings.items() if k not in NOT_SETTINGS}, arrays


def manifest(golden: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Settings of a full-size model, and zeros of its shapes that take no memory."""
    contents = json.loads((golden / f"manifest_{name}.json").read_text())
    arrays = {
        f"{tree}/{path}": np.broadcast_to(np.zeros((), tensor["dtype"]), tensor["shape"])
        for tree in ("params", "state")
        for path, tensor in contents[tree].items()
    }
    return contents, arrays


def weights(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: v for k, v in arrays.items() if k.startswith(("params/", "state/"))}


@pytest.mark.parametrize("name", IMAGENET)
def test_tiny_model(golden, float64, name):
    """Ours in float64, so that only the rounding of the files is left, the same on any machine."""
    settings, arrays = tiny_model(golden, name)
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    ours = load(deepmind.rows(config), weights(arrays), wanted(structure))
    model = bind(structure, {path: as_float64(array) for path, array in ours.items()})
    images = as_float64(arrays["inputs/images"])
    stages = model.stages(images)
    last_layer = [stage for stage in stages if "/block/" in stage][-1]
    correspondence = {
        "encoder/inputs": "intermediates/preprocessed_inputs",
        "encoder/step/0/cross_attention/mlp": "intermediates/encoder_cross_attention",
        last_layer: "intermediates/latents",
        "decoder/queries": "intermediates/decoder_query",
        "outputs": "outputs/logits",
    }
    assert_same_stages(
        [(ours, stages[ours]) for ours in correspondence],
        [(theirs, arrays[theirs]) for theirs in correspondence.values()],
        TOLERANCE,
    )


@pytest.mark.parametrize("name", IMAGENET)
def test_tiny_model_compiled(golden, name):
    """In float32, with the scan over blocks."""
    settings, arrays = tiny_model(golden, name)
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    ours = load(deepmind.rows(config), weights(arrays), wanted(structure))
    model = bind(structure, ours)
    predict = jax.jit(model.__call__)
    assert_close(predict(arrays["inputs/images"]), arrays["outputs/logits"])


def as_float64(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


@pytest.mark.parametrize("name", IMAGENET)
def test_round_trip(golden, name):
    """Exact, but for the biased averages of batch norms, which are made anew."""
    settings, arrays = tiny_model(golden, name)
    config = deepmind.config(settings)
    rows, theirs = deepmind.rows(config), weights(arrays)
    ours = load(rows, theirs, wanted(models.skeleton(config)))
    back = save(rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    for tensor in back:
        if not tensor.endswith("/hidden"):
            np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)
    again = load(rows, back, wanted(models.skeleton(config)))
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


@pytest.mark.parametrize("name", IMAGENET)
def test_full_size_names_and_shapes(golden, name):
    """Every tensor of the published model has one row, both ways, and none is left over."""
    contents, theirs = manifest(golden, name)
    config = deepmind.config(contents["config"])
    rows, structure = deepmind.rows(config), models.skeleton(config)
    assert params.count(structure.params) == contents["num_params"]
    ours = load(rows, theirs, wanted(structure))
    assert save(rows, ours, want=theirs).keys() == theirs.keys()
    named = [tensor for row in rows for tensor in (*row.theirs, *row.tied)]
    assert sorted(named) == sorted(theirs)


@pytest.mark.parametrize("name", IMAGENET)
def test_published_models_are_recognised(golden, name):
    """By names and shapes, which no other model shares; a file says no more."""
    arrays = manifest(golden, name)[1]
    assert deepmind.published(arrays) == name
    arrays["params/perceiver_encoder/~/trainable_position_encoding/pos_embs"] = np.zeros((4, 1024))
    assert deepmind.published(arrays) is None
    assert deepmind.published(weights(tiny_model(golden, name)[1])) is None


@pytest.mark.parametrize("name", IMAGENET)
def test_tiny_pickle_holds_the_same_weights(golden, name, tmp_path):
    """The released container, with the arguments in a file beside it, from end to end."""
    settings, arrays = tiny_model(golden, name)
    pickle = tmp_path / f"{name}.pystate"
    pickle.write_bytes((golden / f"tiny_{name}.pystate").read_bytes())
    pickle.with_suffix(".json").write_text(json.dumps(settings))
    model = load_pretrained("deepmind", pickle)
    assert_close(jax.jit(model.__call__)(arrays["inputs/images"]), arrays["outputs/logits"])


@pytest.mark.parametrize("name", IMAGENET)
def test_presets_are_the_published_models(golden, name):
    """The config by our name and the one translated from DeepMind's arguments make one model."""
    preset = models.skeleton(IMAGENET[name]())
    translated = models.skeleton(deepmind.config(manifest(golden, name)[0]["config"]))
    assert preset.params == translated.params
    assert preset.stats == translated.stats
    # Whether the decoder adds its query is the one thing that shapes do not tell.
    residual = name != "imagenet_learned_position_encoding"
    assert IMAGENET[name]().decoder.cross_attention_residual == residual


class Case:
    """One case of `primitives.npz`."""

    def __init__(self, arrays: dict[str, np.ndarray], name: str):
        self.name = name
        self.options = json.loads(str(arrays["config"]))["cases"][name]
        self.arrays = arrays

    def __getitem__(self, path: str) -> np.ndarray:
        tree, name = path.split("/", 1)
        return self.arrays[f"{tree}/{self.name}/{name}"]

    def weights(self, tree: str, kind: str | None = None) -> dict[str, np.ndarray]:
        """Arrays below `tree`, named as in the part `kind` of a checkpoint."""
        first, *rest = tree.split("/")
        start = "/".join([first, self.name, *rest, ""])
        kind = kind or tree
        return {
            f"{kind}/{path.removeprefix(start)}": array
            for path, array in self.arrays.items()
            if path.startswith(start)
        }


@pytest.fixture(scope="module")
def primitives(golden):
    arrays = read(golden / "primitives.npz")
    return lambda name: Case(arrays, name)


def load_module(build: Any, rows: list[Row], weights: dict[str, np.ndarray]) -> Any:
    """A module with foreign weights."""
    structure = params.skeleton(lambda: build(nnx.Rngs(0)))
    return bind(structure, load(rows, weights, wanted(structure)))


def assert_close(got: Any, want: np.ndarray) -> None:
    assert max_error(got, want) <= TOLERANCE


@pytest.mark.parametrize(
    "name", ["fourier_1d", "fourier_2d", "fourier_2d_noconcat", "fourier_3d_sineonly"]
)
def test_fourier_features(primitives, name):
    case = primitives(name)
    options = case.options
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in options["index_dims"]], indexing="ij")
    got = fourier_features(
        np.stack([axis.ravel() for axis in grid], -1),
        num_bands=options["num_bands"],
        max_resolution=options["max_resolution"],
        concat_positions=options["concat_pos"],
        sine_only=options["sine_only"],
    )
    for want in case["outputs/out"]:
        assert_close(got, want)


@pytest.mark.parametrize("name", ["fourier_1d", "fourier_2d"])
def test_fourier_axes(primitives, name):
    """Features axis by axis, spread by `Tokens`, are those of the whole grid."""
    case = primitives(name)
    options = case.options
    positions, order = fourier_axes(
        options["index_dims"],
        num_bands=options["num_bands"],
        max_resolution=options["max_resolution"],
    )
    content = jnp.zeros((2, *options["index_dims"], 0), jnp.float32)
    got = Tokens(content=content, positions=positions, order=order).dense()
    assert_close(got, case["outputs/out"])


def test_fourier_features_of_given_positions(primitives):
    case = primitives("fourier_given_pos")
    got = fourier_features(
        case["inputs/pos"],
        num_bands=case.options["num_bands"],
        max_resolution=case.options["max_resolution"],
    )
    assert_close(got, case["outputs/out"])


def test_space_to_depth(primitives):
    case = primitives("space_to_depth")
    got = space_to_depth(case["inputs/x4"], case.options["spatial"])
    np.testing.assert_array_equal(got, case["outputs/y4"])


def test_attend(primitives):
    """Query rows that may attend to nothing give zeros."""
    case = primitives("attend")
    q, k, v = (jnp.asarray(case[f"inputs/{name}"]) for name in "qkv")
    mask = case["inputs/mask"].astype(bool)
    assert not mask.any(-1).all(), "no row is fully masked"
    assert_close(attend(q, k, v), case["outputs/nomask"])
    assert_close(attend(q, k, v, mask[:, None]), case["outputs/masked"])


def stem_rows(case: Case) -> list[Row]:
    return layers.conv_stem(
        "stem",
        "params/conv2_d_downsample",
        num_layers=case.options["num_layers"],
        num_channels=case.options["num_channels"],
        norms=case.options.get("use_batchnorm", True),
    )


def load_stem(case: Case, state: dict[str, np.ndarray]) -> Any:
    """The case's stem, under the name `stem` of a module around it."""

    def build(rngs):
        stem = ConvStem(
            num_image_channels=3,
            num_channels=case.options["num_channels"],
            num_layers=case.options["num_layers"],
            batch_norm=case.options.get("use_batchnorm", True),
            init=InitConfig(),
            rngs=rngs,
        )
        return nnx.Dict(stem=stem)

    return load_module(build, stem_rows(case), {**case.weights("params"), **state})


@pytest.mark.parametrize(
    "name", ["conv2d_downsample", "conv2d_downsample_2layers", "conv2d_downsample_nobn"]
)
def test_conv_stem(primitives, name):
    case = primitives(name)
    stem = load_stem(case, case.weights("state"))["stem"]
    assert_close(stem(jnp.asarray(case["inputs/x"]), training=False), case["outputs/out"])


@pytest.mark.parametrize("name", ["conv2d_downsample", "conv2d_downsample_2layers"])
def test_conv_stem_in_training(primitives, name):
    """Outputs, and running statistics after the step."""
    case = primitives(name)
    before = case.weights("state")
    for tensor in [tensor for tensor in before if tensor.endswith("/average")]:
        # The file's averages are random ones, and Haiku's step starts from the biased sums.
        seen = 1 - 0.9 ** int(before[tensor.replace("average", "counter")])
        before[tensor] = np.float32(before[tensor.replace("average", "hidden")] / seen)
    module = load_stem(case, before)
    outputs = module["stem"](jnp.asarray(case["inputs/x"]), training=True)
    assert_close(outputs, case["outputs/train_out"])
    trained, stats = params.flatten(module)
    after = save(stem_rows(case), {**trained, **stats})
    expected = case.weights("outputs/train_state", "state")
    assert len(expected) == 6 * case.options["num_layers"]
    for tensor in expected:
        assert_close(after[tensor], expected[tensor])


def test_projection_decoder(primitives):
    case = primitives("projection_decoder")
    head = load_module(
        lambda rngs: MeanPoolHead(
            num_latent_channels=6, num_classes=5, init=InitConfig(), rngs=rngs
        ),
        layers.linear("linear", "params/projection_decoder/~/logits"),
        case.weights("params"),
    )
    assert_close(head(jnp.asarray(case["inputs/z"])), case["outputs/out"])


def test_cross_attention_with_query_shape(primitives):
    case = primitives("cross_attention_q_shape")
    options = case.options
    queries, inputs = case["inputs/q"], case["inputs/kv"]

    def build(rngs):
        layer = CrossAttentionLayer(
            AttentionConfig(
                num_heads=options["num_heads"],
                num_qk_channels=queries.shape[-1],
                residual=options["use_query_residual"],
            ),
            MLPConfig(widening_factor=options["widening_factor"], activation="gelu_tanh"),
            num_query_channels=queries.shape[-1],
            num_input_channels=inputs.shape[-1],
            rngs=rngs,
        )
        return nnx.Dict(layer=layer)

    rows = layers.cross_layer("layer", "params/cross_attention")
    layer = load_module(build, rows, case.weights("params"))["layer"]
    assert_close(layer(jnp.asarray(queries), jnp.asarray(inputs)), case["outputs/out"])


def test_self_attention(primitives):
    case = primitives("self_attention")
    options = case.options
    x = case["inputs/x"]

    def build(rngs):
        layer = SelfAttentionLayer(
            AttentionConfig(num_heads=options["num_heads"]),
            MLPConfig(widening_factor=options["widening_factor"], activation="gelu_tanh"),
            num_channels=x.shape[-1],
            rngs=rngs,
        )
        return nnx.Dict(layer=layer)

    rows = layers.self_layer("layer", "params/self_attention")
    layer = load_module(build, rows, case.weights("params"))["layer"]
    assert_close(layer(jnp.asarray(x)), case["outputs/out"])
