import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import models, params
from perceiver_jax.card import ModelCard
from perceiver_jax.core import AttentionConfig, MLPConfig, SelfAttentionBlock

KEY = jax.random.key(0)


@pytest.fixture
def with_stem(tiny_config):
    """The structure of a model that has statistics, and values for all of it."""
    config = tiny_config(preprocessing="conv", num_preprocessing_channels=3)
    skeleton = models.skeleton(config)
    rng = np.random.default_rng(0)

    def draw(shapes):
        return {path: rng.normal(size=x.shape).astype(x.dtype) for path, x in shapes.items()}

    return skeleton, draw(skeleton.params), draw(skeleton.stats)


def test_what_was_bound_comes_back_flat(with_stem):
    skeleton, trained, stats = with_stem
    for got, want in zip(
        params.flatten(skeleton.bind(trained, stats)), (trained, stats), strict=True
    ):
        assert set(got) == set(want)
        for path, value in got.items():
            np.testing.assert_array_equal(value, want[path], err_msg=path)


def test_statistics_are_apart_from_parameters(with_stem):
    skeleton, *_ = with_stem
    norm = "encoder/input_adapter/stem/layer/0/norm/"
    assert set(skeleton.stats) == {norm + "mean", norm + "var", norm + "count"}
    assert {norm + "scale", norm + "bias"} <= set(skeleton.params)


@pytest.mark.parametrize("kind", ["params", "stats"])
def test_bind_lists_every_problem_at_once(with_stem, kind):
    skeleton, trained, stats = with_stem
    changed = trained if kind == "params" else stats
    missing, reshaped, *_ = changed
    missing_shape, right_shape = changed.pop(missing).shape, changed[reshaped].shape
    changed[reshaped] = np.zeros((*right_shape, 7))
    changed["encoder/latent"] = np.zeros(3)
    with pytest.raises(ValueError) as caught:
        skeleton.bind(trained, stats)
    lines = str(caught.value).splitlines()
    word = "parameters" if kind == "params" else "statistics"
    assert lines[0] == f"these {word} do not fit the model:"
    assert {line.strip() for line in lines[1:]} == {
        f"missing {missing} {missing_shape}",
        "unknown encoder/latent",
        f"{reshaped} has shape {(*right_shape, 7)} instead of {right_shape}",
    }


def test_a_renamed_path_of_the_same_shape_is_refused(with_stem):
    skeleton, trained, stats = with_stem
    trained["encoder/latent_array"] = trained.pop("encoder/latents")
    with pytest.raises(ValueError, match="missing encoder/latents"):
        skeleton.bind(trained, stats)


def test_missing_statistics_are_no_defaults(with_stem):
    skeleton, trained, _ = with_stem
    with pytest.raises(ValueError, match="these statistics do not fit"):
        skeleton.bind(trained)


def test_a_long_list_of_problems_is_cut_with_its_length():
    want = {f"layer/{i}": jax.ShapeDtypeStruct((2,), jnp.float32) for i in range(25)}
    with pytest.raises(ValueError, match="and 5 more") as caught:
        params.check_same_paths({}, want, "parameters")
    assert len(str(caught.value).splitlines()) == 22


def test_twelve_layers_keep_their_order_however_the_dict_is_ordered(call):
    """As text, 10 and 11 come before 2."""
    skeleton = params.skeleton(
        lambda: SelfAttentionBlock(
            AttentionConfig(num_heads=1),
            MLPConfig(),
            num_layers=12,
            num_channels=4,
            unroll=True,
            rngs=nnx.Rngs(0),
        )
    )
    names = list(skeleton.params)
    shuffled = {
        path: jnp.full(skeleton.params[path].shape, int(path.split("/")[1]), jnp.float32)
        for path in np.random.default_rng(0).permutation(names)
    }
    block = skeleton.bind(shuffled)
    assert len(block.layer) == 12
    for i, layer in enumerate(block.layer):
        for value in jax.tree.leaves(layer):
            np.testing.assert_array_equal(value, i)
    for path, value in params.flatten(block)[0].items():
        np.testing.assert_array_equal(value, int(path.split("/")[1]))


def test_binding_is_free_to_stand_inside_jit_and_grad(with_stem):
    skeleton, trained, stats = with_stem
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)

    def loss(trained, stats):
        return jnp.square(skeleton.bind(trained, stats)(images)).sum()

    stats = {path: np.abs(value) for path, value in stats.items()}
    value, grads = jax.jit(jax.value_and_grad(loss))(trained, stats)
    np.testing.assert_allclose(value, jax.jit(loss)(trained, stats), rtol=1e-5)
    assert set(grads) == set(trained)
    assert all(grads[path].shape == trained[path].shape for path in trained)
    assert np.abs(grads["decoder/output_adapter/linear/kernel"]).max() > 0


def test_a_bound_model_is_the_model_that_was_built(tiny_config, call):
    built = jax.jit(lambda: models.build(tiny_config(), KEY))()
    bound = models.skeleton(tiny_config()).bind(*params.flatten(built))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(call(bound, images), call(built, images))


@pytest.mark.parametrize("preprocessing", ["pixels", "conv"])
def test_a_model_that_was_split_is_put_together_again(tiny_config, call, preprocessing):
    model = models.build(tiny_config(preprocessing=preprocessing), KEY)
    model.card = ModelCard(labels=("a", "b"))
    structure, trained, stats = params.split(model)
    assert set(structure.params) == set(trained) and set(structure.stats) == set(stats)
    assert bool(stats) == (preprocessing == "conv")
    bound = structure.bind(trained, stats)
    assert bound.card is model.card
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(call(bound, images), call(model, images))


def test_the_number_of_parameters_is_the_sum_of_sizes():
    shapes = {
        "a": np.zeros((3, 4)),
        "b": jax.ShapeDtypeStruct((5,), jnp.float32),
        "c": np.zeros(()),
    }
    assert params.count(shapes) == 12 + 5 + 1


def test_patterns_are_searched_anywhere_in_a_path():
    paths = ["encoder/latents", "encoder/block/0/kernel", "decoder/kernel", "decoder/bias"]
    assert params.matching(paths, ["^encoder/", "bias$"]) == {paths[0], paths[1], paths[3]}
    assert params.matching(paths, []) == set()


def test_the_table_has_a_line_per_parameter_and_the_total():
    lines = params.table({"latents": np.zeros((3, 400)), "bias": np.zeros(5)}).splitlines()
    assert [line.split() for line in lines] == [
        ["latents", "[3,", "400]", "1,200"],
        ["bias", "[5]", "5"],
        ["total", "1,205"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_a_model_shows_its_parts(tiny_config):
    model = models.build(tiny_config(), jax.random.key(0))
    lines = str(model).splitlines()
    count = params.count(params.flatten(model)[0])
    assert lines[0] == f"ImageClassifier: {count:,} parameters"
    parts = [line.split()[0] for line in lines[1:]]
    assert "encoder/latents" in parts and "encoder/cross_attention/0" in parts
    assert "decoder/cross_attention" in parts and len(parts) == len(set(parts)) < 12
    assert sum(int(line.split()[1].replace(",", "")) for line in lines[1:]) == count
    assert repr(model) == str(model)


@pytest.mark.parametrize("function", [params.count, params.split])
def test_other_things_than_parameters_or_models_are_refused(tiny_config, function):
    thing = 3 if function is params.count else tiny_config()
    with pytest.raises(TypeError, match=f"{function.__name__} takes .*, and this is of"):
        function(thing)


def test_parameters_are_a_dict(tiny_config):
    structure = models.skeleton(tiny_config())
    with pytest.raises(ValueError, match="parameters are {path: array}, not of list"):
        structure.bind([1])
