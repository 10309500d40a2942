import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import params
from perceiver_jax.adapters import ClassificationOutputAdapter, GivenQueriesOutputAdapter
from perceiver_jax.core import MeanPoolHead, Perceiver, PerceiverDecoder, PerceiverIO
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.perceiver import chosen
from perceiver_jax.core.tape import Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.train.model_flops import count_products

KEY = jax.random.key(0, impl="unsafe_rbg")
INPUTS = np.random.default_rng(0).normal(size=(2, 10, 6)).astype(np.float32)
MASK = np.arange(10)[None] < np.asarray([[7], [4]])


@pytest.fixture
def io(tiny_encoder):
    """A function that makes a function that builds a Perceiver IO with class queries."""

    def builder(output_queries="trainable", num_output_queries=1, **fields):
        def build():
            rngs = nnx.Rngs(1)
            adapter = ClassificationOutputAdapter(
                num_classes=5,
                num_output_query_channels=6,
                num_output_queries=num_output_queries,
                output_queries=output_queries,
                rngs=rngs,
            )
            decoder = PerceiverDecoder(
                output_adapter=adapter,
                num_latent_channels=8,
                num_cross_attention_heads=2,
                dropout=fields.get("dropout", 0.0),
                implementation=fields.get("implementation", "auto"),
                rngs=rngs,
            )
            return PerceiverIO(tiny_encoder(**fields), decoder)

        return build

    return builder


@pytest.fixture
def pooled(tiny_encoder):
    """A function that builds the original Perceiver."""

    def build():
        head = MeanPoolHead(
            num_latent_channels=8, num_classes=5, init=InitConfig(), rngs=nnx.Rngs(1)
        )
        return Perceiver(tiny_encoder(num_cross_attention_layers=2), head)

    return build


def test_perceiver_io_encodes_and_decodes(random_model, call, io):
    model = random_model(io())

    @jax.jit
    def by_hand(model, inputs, mask):
        z = model.encoder(inputs, mask)
        return model.decoder(z, model.decoder.output_adapter.queries[...])

    got = call(model, INPUTS, MASK)
    assert got.shape == (2, 5)
    np.testing.assert_allclose(got, by_hand(model, INPUTS, MASK), rtol=1e-5)
    assert not np.allclose(got, call(model, INPUTS))


def test_the_original_perceiver_encodes_and_pools(random_model, call, pooled):
    model = random_model(pooled)
    by_hand = jax.jit(lambda m, x, mask: m.head(m.encoder(x, mask)))
    got = call(model, INPUTS, MASK)
    assert got.shape == (2, 5)
    np.testing.assert_allclose(got, by_hand(model, INPUTS, MASK), rtol=1e-5)
    latents = np.ones((3, 8), np.float32)
    assert not np.allclose(got, call(model, INPUTS, MASK, latents=latents))


def test_products_grow_with_inputs_latents_queries_and_depth_as_published(io):
    """O(MN + LN² + ON): Perceiver §3.1, Perceiver IO appendix E.2."""

    def products(*, inputs=64, latents=8, blocks=1, queries=1):
        build = io(
            num_output_queries=queries,
            num_latents=latents,
            num_self_attention_layers_per_block=1,
            num_self_attention_blocks=blocks,
            implementation="plain",
        )
        structure = params.skeleton(build)
        arrays = structure.params, jnp.zeros((1, inputs, 6))
        return count_products(jax.make_jaxpr(lambda p, x: structure.bind(p)(x))(*arrays).jaxpr)

    for name in ("inputs", "blocks", "queries"):
        once, twice, four_times = (products(**{name: size}) for size in (64, 128, 256))
        assert four_times - twice == 2 * (twice - once) > 0, name
    few, some, many = (products(latents=size) for size in (8, 16, 24))
    each_pair = 2 * (8 + 8)  # channels of a score, and of what its weight is applied to
    assert (many - some) - (some - few) == 2 * 8**2 * each_pair


def test_encode_gives_the_latents(random_model, io, pooled):
    for build in (io(), pooled):
        model = random_model(build)
        got = jax.jit(lambda m, x, mask: m.encode(x, mask))(model, INPUTS, MASK)
        want = jax.jit(lambda m, x, mask: m.encoder(x, mask))(model, INPUTS, MASK)
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("num_output_queries, shape", [(1, (2, 5)), (3, (2, 3, 5))])
@pytest.mark.parametrize("output_queries", ["trainable", "zeros"])
def test_queries_of_the_adapter_give_logits_each(
    random_model, call, shapes, io, output_queries, num_output_queries, shape
):
    build = io(output_queries, num_output_queries)
    assert call(random_model(build), INPUTS).shape == shape
    is_parameter = "decoder/output_adapter/queries" in shapes(build)
    assert is_parameter == (output_queries == "trainable")


def test_queries_of_the_caller_take_the_place_of_the_adapter_s(random_model, call, io):
    trained = random_model(io("trainable", 3))
    learned = params.flatten(trained)[0]
    own = learned.pop("decoder/output_adapter/queries")
    without = params.skeleton(io("given", 3)).bind(learned)
    with pytest.raises(ValueError, match=r"output_queries='given'; pass queries=\[3, 6\]"):
        call(without, INPUTS)
    np.testing.assert_allclose(call(without, INPUTS, queries=own), call(trained, INPUTS), rtol=1e-5)
    # Two queries of an example's own, asked of both models.
    queries = np.random.default_rng(2).normal(size=(2, 2, 6)).astype(np.float32)
    got = call(without, INPUTS, queries=queries)
    assert got.shape == (2, 2, 5)
    np.testing.assert_allclose(got, call(trained, INPUTS, queries=queries), rtol=1e-5)


def test_the_query_mask_reaches_the_decoder(random_model, call, io):
    model = random_model(io(num_output_queries=3))
    mask = np.asarray([[True, True, False], [True, True, True]])
    whole, masked = call(model, INPUTS), call(model, INPUTS, query_mask=mask)
    np.testing.assert_allclose(masked[mask], whole[mask], rtol=1e-5)
    assert not np.allclose(masked[0, 2], whole[0, 2])


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (2, 4, 6)], ids=["O,E", "1,O,E", "B,O,E"])
def test_chosen_queries_are_some_of_each_example(shape):
    queries = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    indices = np.asarray([[3, 1], [0, 0]])
    some = chosen(jnp.asarray(queries), indices)
    of_both = np.broadcast_to(queries, (2, 4, 6))
    wanted = np.take_along_axis(of_both, indices[..., None], 1)
    np.testing.assert_array_equal(some.dense(), wanted)
    assert some.mask is None


def test_chosen_tokens_keep_their_mask():
    tokens = Tokens(
        content=jnp.arange(8.0).reshape(1, 4, 2), mask=jnp.asarray([[1, 0, 1, 0]], bool)
    )
    some = chosen(tokens, np.asarray([[1, 2]]))
    np.testing.assert_array_equal(some.content[0], [[2, 3], [4, 5]])
    np.testing.assert_array_equal(some.mask, [[False, True]])


def test_given_latents_reach_the_encoder(random_model, call, io):
    model = random_model(io())
    own = params.flatten(model)[0]["encoder/latents"]
    plain = call(model, INPUTS)
    np.testing.assert_allclose(call(model, INPUTS, latents=own), plain, rtol=1e-6)
    assert not np.allclose(call(model, INPUTS, latents=2 * own), plain)


def test_dropout_needs_a_key_and_follows_it(random_model, call, io):
    model, plain = random_model(io(dropout=0.3)), random_model(io())
    np.testing.assert_array_equal(call(model, INPUTS), call(plain, INPUTS))
    first = call(model, INPUTS, key=KEY)
    np.testing.assert_array_equal(first, call(model, INPUTS, key=KEY))
    assert (first != call(model, INPUTS, key=jax.random.fold_in(KEY, 1))).all()


def test_stages_are_named_in_order_of_computation(random_model, io):
    model = random_model(io())
    stages = jax.eval_shape(lambda m, x: m.stages(x), model, INPUTS)
    latents = [
        f"encoder/step/{i}/{layer}/{part}"
        for i in range(2)
        for layer in (["cross_attention"] if i == 0 else []) + ["block/layer/0"]
        for part in ("attention", "mlp")
    ]
    want = (
        {"encoder/inputs": (2, 10, 6)}
        | dict.fromkeys(latents, (2, 4, 8))
        | {
            "decoder/queries": (1, 1, 6),
            "decoder/cross_attention/attention": (2, 1, 6),
            "decoder/cross_attention/mlp": (2, 1, 6),
            "outputs": (2, 5),
        }
    )
    recorded = []
    jax.eval_shape(lambda m, x: recorded.append(list(m.stages(x))), model, INPUTS)
    assert recorded == [list(want)]
    assert {name: x.shape for name, x in stages.items()} == want


def test_attention_maps_are_named_by_layer_and_sum_to_one(random_model, io):
    model = random_model(io())
    maps = jax.jit(lambda m, x: m.attention_maps(x))(model, INPUTS)
    assert {name: weights.shape for name, weights in maps.items()} == {
        "encoder/step/0/cross_attention": (2, 1, 4, 10),
        "encoder/step/0/block/layer/0": (2, 2, 4, 4),
        "encoder/step/1/block/layer/0": (2, 2, 4, 4),
        "decoder/cross_attention": (2, 2, 1, 4),
    }
    for weights in maps.values():
        np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)


def test_stages_and_maps_of_the_original_perceiver(random_model, pooled):
    model = random_model(pooled)
    stages = jax.eval_shape(lambda m, x: m.stages(x), model, INPUTS)
    assert "encoder/step/1/cross_attention/mlp" in stages
    assert stages["outputs"].shape == (2, 5)
    maps = jax.eval_shape(lambda m, x: m.attention_maps(x), model, INPUTS)
    assert maps["encoder/step/1/cross_attention"].shape == (2, 1, 4, 10)


def test_recording_changes_no_result(random_model, call, io, pooled):
    record = jax.jit(lambda m, x, mask, key: m.stages(x, mask, key=key))
    for build, key in ((io(dropout=0.3), KEY), (pooled, None)):
        model = random_model(build)
        plain, stages = call(model, INPUTS, MASK, key=key), record(model, INPUTS, MASK, key)
        np.testing.assert_allclose(stages["outputs"], plain, rtol=1e-4, atol=1e-5)


def test_without_recording_the_program_has_nothing_of_it(random_model, io):
    """Written out plainly, recorded and silent programs differ in their results alone."""
    model = random_model(io(unroll=True, implementation="plain"))

    def program(tape):
        return str(jax.make_jaxpr(lambda m, x: m(x, tape=tape) if tape else m(x))(model, INPUTS))

    silent = program(None)
    assert program(Tape()) == silent
    assert program(Tape(stages={}, attention_maps={})) == silent


def test_repeated_calls_and_equal_models_trace_once(random_model, io, pooled):
    for builder in (lambda: io()(), pooled):
        traces = []

        @jax.jit
        def forward(model, inputs):
            traces.append(1)  # noqa: B023
            return model(inputs)

        for seed in range(3):
            forward(random_model(builder, seed), jnp.asarray(INPUTS))
        assert len(traces) == 1


def test_halves_that_do_not_fit_are_refused_when_they_are_joined(tiny_encoder):
    def decoder(channels):
        return PerceiverDecoder(
            output_adapter=GivenQueriesOutputAdapter(num_output_query_channels=4, rngs=nnx.Rngs(0)),
            num_latent_channels=channels,
            num_cross_attention_heads=1,
            rngs=nnx.Rngs(0),
        )

    encoder = tiny_encoder()
    with pytest.raises(ValueError, match="encoder of 8 latent channels and a decoder of 12"):
        PerceiverIO(encoder, decoder(12))
    with pytest.raises(ValueError, match="in this order, not PerceiverDecoder and Perc"):
        PerceiverIO(decoder(8), encoder)


def test_queries_for_another_number_of_examples_are_refused(random_model, io):
    model = random_model(io(output_queries="given"))
    with pytest.raises(ValueError, match="queries for 3 examples do not fit the latents of 2"):
        model(INPUTS, queries=jnp.zeros((3, 1, 6)))
