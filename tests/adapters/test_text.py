import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import TiedTokenOutputAdapter, TokenInputAdapter, TokenOutputAdapter
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.tokens import Tokens

IDS = np.array([[3, 1, 4, 1], [0, 5, 2, 6]], np.int32)
MASK = np.array([[True, True, True, True], [True, True, False, False]])


def input_adapter():
    return TokenInputAdapter(vocab_size=7, max_seq_len=5, num_input_channels=3, rngs=nnx.Rngs(0))


def output_adapter(cls, **fields):
    sizes = {"vocab_size": 7, "max_seq_len": 5, "num_output_query_channels": 3}
    return cls(**sizes, rngs=nnx.Rngs(1), **fields)


def draw(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def test_a_token_is_its_embedding_and_that_of_its_place():
    adapter = input_adapter()
    tokens = adapter(IDS, MASK)
    table, places = adapter.token_embedding[...], adapter.position_embedding[...]
    want = [[table[i] + places[k] for k, i in enumerate(row)] for row in IDS]
    np.testing.assert_allclose(tokens.dense(), want, rtol=1e-6)
    np.testing.assert_array_equal(tokens.mask, MASK)


@pytest.mark.parametrize(
    "ids, message",
    [
        (np.zeros((1, 6), np.int32), "6 tokens are more than this model takes"),
        (np.zeros((1, 4), np.float32), "float32 are no token ids"),
        (np.zeros(4, np.int32), r"shape \(4,\)"),
        (np.array([[0, 7]]), "token ids from 0 to 7 are not all in 0 to 6; the model's vocab_size"),
        (np.array([[-1, 2]]), "token ids from -1 to 2 are not all in 0 to 6"),
        ("a film", "the text 'a film' is no token ids; encode it with the model's tokenizer"),
    ],
)
def test_what_are_no_ids_is_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        input_adapter()(ids)


@pytest.mark.parametrize("call", [lambda f: f, jax.jit])
def test_padding_may_be_any_id(call):
    adapter = input_adapter()
    ids, mask = np.array([[3, -1], [2, 9]]), np.array([[True, False]] * 2)
    content = call(lambda ids, mask: adapter(ids, mask).dense())(ids, mask)
    np.testing.assert_array_equal(content, adapter(np.array([[3, 0], [2, 0]])).dense())
    known = call(lambda ids, mask: adapter(ids, mask).dense())(np.array([[3, 4]]), mask[:1])
    np.testing.assert_array_equal(known, adapter(np.array([[3, 4]])).dense())
    with pytest.raises(ValueError, match="ids from -1 to 9"):
        adapter(ids, ~mask)


def test_under_jit_the_token_of_an_unknown_id_is_nan():
    adapter = input_adapter()
    content = np.asarray(jax.jit(lambda ids: adapter(ids).dense())(np.array([[6, 7, -1]])))
    np.testing.assert_array_equal(np.isnan(content).all(-1), [[False, True, True]])
    assert np.isfinite(content[:, 0]).all()


def test_embeddings_start_as_the_references_have_them():
    normal, deepmind, lucidrains = (
        TokenInputAdapter(
            vocab_size=400,
            max_seq_len=300,
            num_input_channels=50,
            init=InitConfig(method=method),
            rngs=nnx.Rngs(0),
        )
        for method in ("normal", "variance_scaling", "uniform")
    )

    def spread(adapter):
        tables = adapter.token_embedding[...], adapter.position_embedding[...]
        return [float(table.std()) for table in tables]

    assert spread(normal) == pytest.approx([0.02, 0.02], rel=0.03)
    # Truncated at two standard deviations.
    assert spread(deepmind) == pytest.approx([0.88, 0.0176], rel=0.03)
    assert spread(lucidrains) == pytest.approx([1.0, 1.0], rel=0.03)


@pytest.mark.parametrize("cls", [TokenOutputAdapter, TiedTokenOutputAdapter])
def test_there_is_a_query_for_each_token(cls):
    adapter = output_adapter(cls)
    queries = adapter.make_queries(input_adapter()(IDS, MASK))
    np.testing.assert_array_equal(queries.content, adapter.queries[...][None, :4])
    np.testing.assert_array_equal(queries.mask, MASK)


def test_padding_can_be_asked_for_as_well():
    adapter = output_adapter(TokenOutputAdapter, mask_queries=False)
    assert adapter.make_queries(input_adapter()(IDS, MASK)).mask is None


def test_the_embedded_inputs_can_be_the_queries():
    adapter = output_adapter(TokenOutputAdapter, output_queries="inputs")
    tokens = input_adapter()(IDS, MASK)
    np.testing.assert_array_equal(adapter.make_queries(tokens).content, tokens.dense())
    assert not hasattr(adapter, "queries")


def test_queries_of_other_channels_or_too_few_are_refused():
    adapter = output_adapter(TokenOutputAdapter, output_queries="inputs")
    with pytest.raises(ValueError, match="num_output_query_channels=3"):
        adapter.make_queries(Tokens(content=jnp.zeros((1, 4, 2))))
    with pytest.raises(ValueError, match="6 tokens are more than this decoder has queries for"):
        adapter.make_queries(Tokens(content=jnp.zeros((1, 6, 3))))


def test_tied_logits_are_products_with_the_embedding():
    adapter = output_adapter(TiedTokenOutputAdapter)
    adapter.bias[...] = jnp.arange(7.0)
    outputs, table = draw(2, 4, 3), draw(7, 3)
    want = outputs @ table.T + np.arange(7.0)
    np.testing.assert_allclose(adapter(outputs, embedding=table), want, rtol=1e-5)


def test_untied_logits_have_a_layer_of_their_own():
    adapter = output_adapter(TokenOutputAdapter)
    outputs = draw(2, 4, 3)
    kernel, bias = adapter.linear.kernel[...], adapter.linear.bias[...]
    np.testing.assert_allclose(adapter(outputs), outputs @ kernel + bias[None, None], rtol=1e-5)
