import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import GivenQueriesOutputAdapter
from perceiver_jax.core import PerceiverDecoder, Tokens
from perceiver_jax.core import decoder as decoding
from perceiver_jax.core.position import fourier_axes
from perceiver_jax.core.query_blocks import map_blocks
from perceiver_jax.core.tape import Tape

LATENTS = np.random.default_rng(0).normal(size=(2, 4, 8))


def draw(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def flow_like_queries(grid=(11, 6), num_content=2):
    tables, order = fourier_axes(grid, num_bands=2)
    return Tokens(content=draw(2, *grid, num_content), positions=tables, order=order)


def builder(num_channels, num_heads=2, implementation="auto", **fields):
    def build():
        rngs = nnx.Rngs(0)
        adapter = GivenQueriesOutputAdapter(
            num_output_query_channels=num_channels, num_outputs=3, rngs=rngs
        )
        return PerceiverDecoder(
            output_adapter=adapter,
            num_latent_channels=8,
            num_cross_attention_heads=num_heads,
            num_cross_attention_qk_channels=32,
            implementation=implementation,
            rngs=rngs,
            **fields,
        )

    return build


def line_queries():
    tables, _ = fourier_axes((23,), num_bands=2)
    return Tokens(content=draw(2, 23, 2), positions=tables)


def places(grid=(11, 6)):
    """As of a grid of pixels: nothing but positions, of one example."""
    tables, order = fourier_axes(grid, num_bands=2, ends="half_open")
    return Tokens(content=jnp.zeros((1, *grid, 0)), positions=tables, order=order)


QUERIES = {
    "array": (lambda: draw(2, 23, 6), 6),
    "array for all": (lambda: draw(1, 23, 6), 6),
    "tokens": (flow_like_queries, 12),
    "tokens in a line": (line_queries, 7),
    "tokens in one long row": (lambda: flow_like_queries((1, 66)), 12),
    "tokens in long rows": (lambda: flow_like_queries((3, 22)), 12),
    "places": (places, 10),
    "places in long rows": (lambda: places((3, 22)), 10),
}


def blocks_of(monkeypatch, size):
    monkeypatch.setattr(decoding, "LEAST_QUERIES", size)
    monkeypatch.setattr(decoding, "SCORES_AT_ONCE", 1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("num_heads", [1, 2])
def test_blocks_change_no_result_and_no_gradient(
    float64, random_model, monkeypatch, kind, size, masked, num_heads
):
    make, num_channels = QUERIES[kind]
    queries = make()
    mask = None
    if masked:
        num_queries = queries.num_tokens if isinstance(queries, Tokens) else queries.shape[1]
        mask = jnp.asarray(np.random.default_rng(3).random((2, num_queries)) < 0.7)

    def outputs(implementation):
        decoder = random_model(builder(num_channels, num_heads, implementation))

        def value(decoder, latents, queries):
            result = decoder(latents, queries, mask)
            return (result * draw(*result.shape)).sum(), result

        return jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))(
            decoder, jnp.asarray(LATENTS), queries
        )

    wanted = outputs("plain")
    blocks_of(monkeypatch, size)
    calls = []
    monkeypatch.setattr(
        "perceiver_jax.core.cross_attention.map_blocks",
        lambda *args, **options: calls.append(1) or map_blocks(*args, **options),
    )
    got = outputs("auto")
    assert calls
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_dropout_of_weights_reaches_queries_that_are_tokens(random_model, monkeypatch):
    blocks_of(monkeypatch, 5)
    decoder = random_model(builder(12, dropout=0.5))
    answers = [
        decoder.decode(jnp.asarray(LATENTS, jnp.float32), flow_like_queries(), key=key)
        for key in (None, jax.random.key(0), jax.random.key(1))
    ]
    assert not np.allclose(answers[0], answers[1]) and not np.allclose(answers[1], answers[2])


def test_decode_gives_the_answers_themselves(float64, random_model, monkeypatch):
    decoder = random_model(builder(6))
    queries = QUERIES["array"][0]()
    whole = decoder.decode(jnp.asarray(LATENTS), queries)
    blocks_of(monkeypatch, 5)
    np.testing.assert_allclose(decoder.decode(jnp.asarray(LATENTS), queries), whole, rtol=1e-11)


def test_a_recording_tape_sees_all_queries_at_once(random_model, monkeypatch):
    blocks_of(monkeypatch, 5)
    decoder = random_model(builder(6))
    stages = {}
    decoder(jnp.asarray(LATENTS, jnp.float32), draw(2, 23, 6), tape=Tape(stages=stages))
    assert stages["queries"].shape == (2, 23, 6)


def test_each_block_has_dropout_of_its_own():
    def answer(tokens, mask, key):
        return jax.random.uniform(key, tokens.content.shape[:2])

    drawn = map_blocks(answer, jnp.zeros((1, 10, 2)), None, at_once=5, key=jax.random.key(0))
    assert drawn.shape == (1, 10) and len(np.unique(drawn)) == 10


@pytest.mark.parametrize("lead", [(), (1,)])
def test_memory_does_not_grow_with_the_queries(lead, random_model, monkeypatch):
    blocks_of(monkeypatch, 64)
    decoder = random_model(builder(6))

    def temporaries(num_queries, function):
        queries = Tokens(content=jnp.zeros((1, *lead, num_queries, 6)))
        lowered = jax.jit(function).lower(decoder, jnp.zeros((1, 4, 8)), queries)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    def forward(decoder, latents, queries):
        return decoder(latents, queries)

    few, many = (temporaries(n, forward) for n in (640, 6400))
    # Queries are rearranged into blocks, answers put together: 6 and 3 numbers each.
    assert many - few <= 4 * (6 + 3) * (6400 - 640) + 10_000

    def gradient(decoder, latents, queries):
        return jax.grad(lambda d: jnp.square(d(latents, queries)).sum())(decoder)

    few, many = (temporaries(n, gradient) for n in (640, 6400))
    assert many - few <= 4 * (6 + 6 + 3 + 3) * (6400 - 640) + 10_000
