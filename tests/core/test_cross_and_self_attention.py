import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import params
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.cross_attention import CrossAttentionLayer
from perceiver_jax.core.mlp import MLPConfig
from perceiver_jax.core.self_attention import (
    SCANNED_FROM,
    SCANNED_FROM_IN_INFERENCE,
    SelfAttentionBlock,
    SelfAttentionLayer,
)
from perceiver_jax.core.tape import Tape
from perceiver_jax.core.tokens import Tokens

ATTENTION, MULTILAYER = AttentionConfig(num_heads=2), MLPConfig(widening_factor=2)
LATENTS = np.random.default_rng(0).normal(size=(2, 3, 8))
KEY = jax.random.key(0, impl="unsafe_rbg")
INPUTS = np.random.default_rng(1).normal(size=(2, 5, 6))


def cross_builder(mlp=MULTILAYER, **fields):
    attention = dataclasses.replace(ATTENTION, **fields)
    return lambda: CrossAttentionLayer(
        attention, mlp, num_query_channels=8, num_input_channels=6, rngs=nnx.Rngs(0)
    )


def self_builder(mlp=MULTILAYER, **fields):
    attention = dataclasses.replace(ATTENTION, **fields)
    return lambda: SelfAttentionLayer(attention, mlp, num_channels=8, rngs=nnx.Rngs(0))


def block_builder(num_layers, *, rate=0.0, compute_dtype="float32", **options):
    attention = dataclasses.replace(
        ATTENTION, dropout=rate, residual_dropout=rate, compute_dtype=compute_dtype
    )
    mlp = dataclasses.replace(MULTILAYER, residual_dropout=rate, compute_dtype=compute_dtype)
    return lambda: SelfAttentionBlock(
        attention, mlp, num_layers=num_layers, num_channels=8, rngs=nnx.Rngs(0), **options
    )


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("q_norm, kv_norm", [(True, True), (False, True), (True, False)])
def test_cross_attention_norms_its_operands_and_skips_around_both_parts(
    float64, random_model, q_norm, kv_norm, residual
):
    layer = random_model(cross_builder(q_norm=q_norm, kv_norm=kv_norm, residual=residual))
    queries, inputs = jnp.asarray(LATENTS), jnp.asarray(INPUTS)
    attended = layer.attention(
        layer.q_norm(queries) if q_norm else queries,
        layer.kv_norm(inputs) if kv_norm else inputs,
    )
    x = queries + attended if residual else attended
    want = x + layer.mlp(layer.mlp_norm(x))
    np.testing.assert_allclose(layer(queries, inputs), want, atol=1e-13)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("q_norm", [True, False])
def test_self_attention_norms_once_and_skips_around_both_parts(
    float64, random_model, q_norm, residual
):
    layer = random_model(self_builder(q_norm=q_norm, residual=residual))
    x = jnp.asarray(LATENTS)
    normed = layer.norm(x) if q_norm else x
    attended = layer.attention(normed, normed)
    y = x + attended if residual else attended
    np.testing.assert_allclose(layer(x), y + layer.mlp(layer.mlp_norm(y)), atol=1e-13)


def groups(found):
    return {path.split("/")[0] for path in found}


@pytest.mark.parametrize(
    "fields, removed",
    [
        ({"q_norm": False}, {"q_norm"}),
        ({"kv_norm": False}, {"kv_norm"}),
        ({"mlp": None}, {"mlp", "mlp_norm"}),
    ],
)
def test_a_cross_attention_layer_has_only_the_parts_it_uses(shapes, fields, removed):
    everything = groups(shapes(cross_builder()))
    assert everything == {"q_norm", "kv_norm", "attention", "mlp_norm", "mlp"}
    assert everything - groups(shapes(cross_builder(**fields))) == removed


def test_a_self_attention_layer_has_one_norm_per_part(shapes):
    assert groups(shapes(self_builder())) == {"norm", "attention", "mlp_norm", "mlp"}
    assert groups(shapes(self_builder(q_norm=False))) == {"attention", "mlp_norm", "mlp"}


def test_norms_take_their_epsilon_from_their_own_config():
    mlp = dataclasses.replace(MULTILAYER, layer_norm_epsilon=0.5)
    cross = cross_builder(mlp, layer_norm_epsilon=0.25)()
    own = self_builder(mlp, layer_norm_epsilon=0.25)()
    assert cross.q_norm.epsilon == cross.kv_norm.epsilon == own.norm.epsilon == 0.25
    assert cross.mlp_norm.epsilon == own.mlp_norm.epsilon == 0.5


def test_masks_reach_the_attention(float64, random_model):
    layer = random_model(cross_builder(mlp=None))
    queries, inputs = jnp.asarray(LATENTS), jnp.asarray(INPUTS)
    mask = jnp.asarray([True, True, True, False, False]).reshape(1, 1, 1, 5)
    np.testing.assert_allclose(layer(queries, inputs, mask), layer(queries, inputs[:, :3]))
    query_mask = jnp.asarray([[True, True, False]] * 2)
    got = layer(queries, inputs, query_mask=query_mask)
    bias = layer.attention.output.bias[...]
    np.testing.assert_allclose(got[:, 2], LATENTS[:, 2] + np.asarray(bias))
    np.testing.assert_allclose(got[:, :2], layer(queries, inputs)[:, :2])
    own = random_model(self_builder())
    np.testing.assert_allclose(
        own(queries, jnp.eye(3, dtype=bool)[None, None])[:, 0], own(queries[:, :1])[:, 0]
    )


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_residual_dropout_zeroes_whole_elements_of_each_branch(random_model, call, part):
    """With a rate near 1 almost nothing of a branch is left and the skip passes untouched."""
    rate = 1 - 1e-7
    attention = {"residual_dropout": rate if part == "attention" else 0.0}
    mlp = dataclasses.replace(MULTILAYER, residual_dropout=rate if part == "mlp" else 0.0)
    x, inputs = jnp.asarray(LATENTS), jnp.asarray(INPUTS)
    for layer, args in (
        (random_model(cross_builder(mlp, **attention)), (x, inputs)),
        (random_model(self_builder(mlp, **attention)), (x,)),
    ):
        stages = {}
        layer(*args, key=KEY, tape=Tape(stages=stages))
        before = {"attention": x, "mlp": stages["attention"]}
        for name in ("attention", "mlp"):
            dropped = bool((stages[name] == before[name]).all())
            assert dropped == (name == part)


@pytest.fixture
def scanned_from_three(monkeypatch):
    """Shallow blocks are scanned like deep ones, but compile sooner when written out."""
    monkeypatch.setattr("perceiver_jax.core.self_attention.SCANNED_FROM", 3)
    monkeypatch.setattr("perceiver_jax.core.self_attention.SCANNED_FROM_IN_INFERENCE", 3)


def assert_same_value_and_gradients(some, other, key):
    """Of two blocks with the same parameters."""

    @jax.jit
    def value_and_grads(block):
        return jax.value_and_grad(lambda b: jnp.square(b(jnp.asarray(LATENTS), key=key)).sum())(
            block
        )

    (value, grads), (other_value, other_grads) = value_and_grads(some), value_and_grads(other)
    np.testing.assert_allclose(value, other_value, rtol=1e-12)
    grads, other_grads = params.flatten(grads)[0], params.flatten(other_grads)[0]
    for path, grad in grads.items():
        np.testing.assert_allclose(grad, other_grads[path], rtol=1e-8, atol=1e-10, err_msg=path)


@pytest.mark.parametrize("key", [None, KEY], ids=["inference", "dropout"])
def test_scanned_layers_equal_written_out_ones(float64, random_model, scanned_from_three, key):
    written, scanned = (
        random_model(block_builder(3, rate=0.3, unroll=unroll)) for unroll in (True, False)
    )
    assert_same_value_and_gradients(written, scanned, key)


@pytest.mark.parametrize("num_layers", [2, 3], ids=["written out", "scanned"])
def test_remat_recomputes_and_changes_nothing(
    float64, random_model, equations, scanned_from_three, num_layers
):
    plain, remat = (
        random_model(block_builder(num_layers, rate=0.3, remat=remat)) for remat in (False, True)
    )

    def recomputes(block):
        jaxpr = jax.make_jaxpr(lambda b: b(jnp.asarray(LATENTS)))(block)
        return any("remat" in e.primitive.name for e in equations(jaxpr))

    assert recomputes(remat) and not recomputes(plain)
    assert_same_value_and_gradients(plain, remat, KEY)


@pytest.mark.parametrize(
    "key, num_layers, deep",
    [
        (KEY, SCANNED_FROM - 1, False),
        (KEY, SCANNED_FROM, True),
        (KEY, 3 * SCANNED_FROM, True),
        (None, 3 * SCANNED_FROM, False),
        (None, SCANNED_FROM_IN_INFERENCE, True),
    ],
)
def test_a_deep_block_is_one_scanned_layer(equations, key, num_layers, deep):
    """On CPU only a very deep one without a key, where stacking parameters takes time."""
    # Built as it is: to trace how `nnx.Rngs` counts takes seconds for so many layers.
    block = block_builder(num_layers)()
    jaxpr = jax.make_jaxpr(lambda b, x: b(x, key=key))(block, jnp.asarray(LATENTS))
    products = [e for e in equations(jaxpr) if e.primitive.name == "dot_general"]
    in_one_layer = 8
    assert len(products) == in_one_layer * (1 if deep else num_layers)
    assert ("scan" in [e.primitive.name for e in equations(jaxpr)]) == deep


@pytest.mark.parametrize("residual", [True, False])
def test_the_skip_stays_float32_when_products_are_bfloat16(random_model, residual):
    fields = {"compute_dtype": "bfloat16", "residual": residual}
    mlp = dataclasses.replace(MULTILAYER, compute_dtype="bfloat16")
    x, inputs = jnp.asarray(LATENTS, jnp.float32), jnp.asarray(INPUTS, jnp.float32)
    cross, own = (
        random_model(cross_builder(mlp, **fields)),
        random_model(self_builder(mlp, **fields)),
    )
    for layer, args in ((cross, (x, inputs)), (own, (x,))):
        stages = {}
        jax.eval_shape(lambda: layer(*args, tape=Tape(stages=stages)))  # noqa: B023
        assert {name: value.dtype.name for name, value in stages.items()} == {
            "attention": "float32",
            "mlp": "float32",
        }


def test_stages_and_maps_are_named_by_layer(random_model):
    block = random_model(block_builder(2))
    stages, maps = {}, {}
    tape = Tape(stages=stages, attention_maps=maps)
    out = block(jnp.asarray(LATENTS), tape=tape)
    assert list(stages) == [f"layer/{i}/{part}" for i in range(2) for part in ("attention", "mlp")]
    assert {name: weights.shape for name, weights in maps.items()} == {
        "layer/0": (2, 2, 3, 3),
        "layer/1": (2, 2, 3, 3),
    }
    np.testing.assert_array_equal(stages["layer/1/mlp"], out)
    np.testing.assert_allclose(block(jnp.asarray(LATENTS)), out, rtol=1e-6)


def test_a_recorded_deep_block_equals_the_scanned_one_dropout_included(float64, random_model, call):
    block = random_model(block_builder(SCANNED_FROM, rate=0.3))
    x, key, stages = jnp.asarray(LATENTS), KEY, {}
    jitted = jax.jit(lambda b, x, key: b(x, key=key, tape=Tape(stages=stages)))
    np.testing.assert_allclose(call(block, x, key=key), jitted(block, x, key), rtol=1e-9)
    assert len(stages) == 2 * SCANNED_FROM


@pytest.mark.parametrize("masked", [False, True])
def test_queries_contribute_keys_and_values_of_their_own(float64, random_model, masked):
    """Flamingo: attention to [inputs; queries], each by its own norm."""
    attention = dataclasses.replace(ATTENTION, queries_contribute_kv=True, norm="rms_norm")
    layer = random_model(
        lambda: CrossAttentionLayer(
            attention, None, num_query_channels=8, num_input_channels=8, rngs=nnx.Rngs(0)
        )
    )
    queries = jnp.asarray(LATENTS)
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 8)))
    mask = jnp.arange(5)[None] < jnp.array([[5], [2]]) if masked else None
    normed = layer.q_norm(queries)
    both = jnp.concatenate([layer.kv_norm(inputs), normed], axis=1)
    seen = None
    if mask is not None:
        seen = jnp.concatenate([mask, jnp.ones((2, 3), bool)], axis=1)[:, None, None, :]
    wanted = queries + layer.attention(normed, both, seen)
    attention_mask = None if mask is None else mask[:, None, None, :]
    np.testing.assert_allclose(layer(queries, inputs, attention_mask), wanted, rtol=1e-12)
    tokens = Tokens(content=inputs, mask=mask)
    np.testing.assert_allclose(layer(queries, tokens), wanted, rtol=1e-12)


def test_queries_that_contribute_keys_have_the_inputs_channels():
    attention = dataclasses.replace(ATTENTION, queries_contribute_kv=True)
    with pytest.raises(ValueError, match="project the inputs to the queries' channels"):
        CrossAttentionLayer(
            attention, None, num_query_channels=8, num_input_channels=6, rngs=nnx.Rngs(0)
        )


def test_inputs_of_queries_that_contribute_keys_cannot_be_prepared(random_model):
    attention = dataclasses.replace(ATTENTION, queries_contribute_kv=True)
    layer = random_model(
        lambda: CrossAttentionLayer(
            attention, None, num_query_channels=8, num_input_channels=8, rngs=nnx.Rngs(0)
        )
    )
    with pytest.raises(ValueError, match="keys of their own"):
        layer.prepare(jnp.asarray(LATENTS))


def test_norms_of_a_layer_are_of_the_kind_that_its_configs_name(shapes):
    rms = dataclasses.replace(MULTILAYER, norm="rms_norm")
    found = shapes(cross_builder(rms, norm="rms_norm"))
    assert {path for path in found if "norm" in path} == {
        "q_norm/scale",
        "kv_norm/scale",
        "mlp_norm/scale",
    }


def test_queries_that_are_padding_contribute_no_keys(float64, random_model):
    attention = dataclasses.replace(ATTENTION, queries_contribute_kv=True)
    layer = random_model(
        lambda: CrossAttentionLayer(
            attention, None, num_query_channels=8, num_input_channels=8, rngs=nnx.Rngs(0)
        )
    )
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 8)))
    queries = Tokens(content=jnp.asarray(LATENTS), mask=jnp.array([[True, True, False]] * 2))
    allowed = jnp.ones((2, 1, 1, 5), bool)
    wanted = layer(jnp.asarray(LATENTS)[:, :2], inputs)
    for given in (layer(queries, inputs), layer(queries, inputs, allowed)):
        np.testing.assert_allclose(given[:, :2], wanted, rtol=1e-10)
