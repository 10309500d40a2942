import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import (
    ClassificationOutputAdapter,
    GivenQueriesOutputAdapter,
    ImageInputAdapter,
)
from perceiver_jax.core import (
    PerceiverDecoder,
    PerceiverEncoder,
    PerceiverIO,
    PerceiverResampler,
    ResamplerConfig,
)
from perceiver_jax.core.arguments import as_mask

ENCODER = {"num_latents": 3, "num_latent_channels": 8}
IMAGES = jnp.zeros((2, 4, 4, 1))


def encoder(**fields):
    adapter = ImageInputAdapter(image_shape=(4, 4, 1), num_frequency_bands=2)
    given = {"input_adapter": adapter, "rngs": nnx.Rngs(0), **ENCODER, **fields}
    return PerceiverEncoder(**{name: x for name, x in given.items() if x is not ...})


@pytest.fixture
def model():
    rngs = nnx.Rngs(0)
    adapter = ClassificationOutputAdapter(num_classes=5, num_output_query_channels=8, rngs=rngs)
    decoder = PerceiverDecoder(output_adapter=adapter, num_latent_channels=8, rngs=rngs)
    return PerceiverIO(encoder(), decoder)


@pytest.fixture
def asked_model():
    rngs = nnx.Rngs(0)
    adapter = GivenQueriesOutputAdapter(num_output_query_channels=8, num_outputs=2, rngs=rngs)
    decoder = PerceiverDecoder(output_adapter=adapter, num_latent_channels=8, rngs=rngs)
    return PerceiverIO(encoder(), decoder)


def test_a_misspelt_argument_is_named_although_the_right_one_is_missing():
    with pytest.raises(TypeError, match="no argument 'num_latent'; did you mean 'num_latents'"):
        encoder(num_latents=..., num_latent=3)
    with pytest.raises(TypeError, match="'num_self_attention_head'; did you mean '.*_heads'"):
        encoder(num_self_attention_head=2)
    with pytest.raises(TypeError, match="PerceiverDecoder .*'output_adaptor'; .* 'output_adapter'"):
        PerceiverDecoder(output_adaptor=None, num_latent_channels=8, rngs=nnx.Rngs(0))


def test_an_argument_that_is_missing_alone_is_named_by_python():
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'num_latents'"):
        encoder(num_latents=...)


@pytest.mark.parametrize(
    "name, meant",
    [
        ("attention_mask", "input_mask=, True"),
        ("mask", "input_mask=, True"),
        ("pad_mask", "input_mask=, its opposite"),
        ("training", "key=: a random key means training"),
        ("input_masks", "did you mean 'input_mask'"),
        ("subsampled_output_points", "query_indices="),
    ],
)
def test_arguments_of_other_implementations_are_translated(model, name, meant):
    with pytest.raises(TypeError, match=f"PerceiverIO takes no argument '{name}'; .*{meant}"):
        model(IMAGES, **{name: None})


def test_also_the_methods_say_so(model):
    for method in (model.encode, model.stages, model.attention_maps):
        with pytest.raises(TypeError, match="here it is input_mask="):
            method(IMAGES, mask=None)


def test_names_are_translated_to_arguments_that_there_are(model, asked_model):
    with pytest.raises(TypeError, match="'deterministic'; it has inputs, input_mask"):
        model.encode(IMAGES, deterministic=True)
    with pytest.raises(TypeError, match="'mask'; did you mean 'query_mask'"):
        asked_model.decoder(model.encode(IMAGES), np.zeros((4, 8)), mask=None)
    with pytest.raises(
        TypeError, match="'output_attentions'; here it is the method attention_maps"
    ):
        model(IMAGES, output_attentions=True)


@pytest.mark.parametrize("key", [0, 1.5, "0", np.zeros(2, np.float32), nnx.Rngs(0)])
def test_what_is_no_random_key_is_refused(model, key):
    with pytest.raises(ValueError, match=r"no random key; give jax.random.key\(0\), or None"):
        model(IMAGES, key=key)


def test_keys_of_both_kinds_are_taken(model):
    old, new = model(IMAGES, key=jax.random.PRNGKey(0)), model(IMAGES, key=jax.random.key(0))
    np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("rngs", [0, jax.random.key(0), None])
def test_what_gives_no_initial_values_is_refused(rngs):
    with pytest.raises(TypeError, match=r"no initial values; give flax.nnx.Rngs\(0\)"):
        encoder(rngs=rngs)
    with pytest.raises(TypeError, match=r"no initial values; give flax.nnx.Rngs\(0\)"):
        PerceiverResampler(ResamplerConfig(num_latent_channels=8), rngs=rngs)


@pytest.mark.parametrize("size", ["8", 8.0, 0, True])
@pytest.mark.parametrize("name", ENCODER)
def test_a_size_is_a_whole_number(name, size):
    with pytest.raises(ValueError, match=f"{name}={size!r} is not valid; it takes a whole number"):
        encoder(**{name: size})


def test_sizes_of_numpy_are_whole_numbers():
    assert encoder(num_latents=np.int64(3)).latents[...].shape == (3, 8)


def test_masks_are_bools_or_integers_of_any_kind_of_array(model, asked_model):
    some = np.arange(32).reshape(2, 16) % 3 > 0
    images = jax.random.normal(jax.random.key(1), IMAGES.shape)
    expected = model(images, some)
    for mask in (some.tolist(), some.astype(int), jnp.asarray(some), some.astype(np.uint8)):
        np.testing.assert_array_equal(model(images, mask), expected)
        np.testing.assert_array_equal(model.encode(images, mask), model.encode(images, some))
    queries = jax.random.normal(jax.random.key(2), (4, 8))
    asked = [[1, 0, 0, 1]] * 2
    np.testing.assert_array_equal(
        asked_model(images, queries=queries, query_mask=asked),
        asked_model(images, queries=queries, query_mask=np.array(asked, bool)),
    )


def test_numbers_that_are_added_to_scores_are_no_mask(model):
    with pytest.raises(ValueError, match="input_mask is of type float32; give bools, True = an"):
        model(IMAGES, np.zeros((2, 16), np.float32))
    with pytest.raises(ValueError, match="query_mask is of type float32; give bools"):
        model(IMAGES, query_mask=np.zeros((2, 1), np.float32))
    assert as_mask(None) is None


def test_zeros_and_ones_become_bools_and_other_integers_are_refused():
    mask = as_mask([[1, 0]])
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[True, False]])
    with pytest.raises(ValueError, match="input_mask has -10000 in it; give bools"):
        as_mask([[0, 1, -10000]])


@pytest.mark.parametrize(
    "mask", [np.ones((2, 15), bool), np.ones(16, bool), np.ones((2, 4, 4), bool)]
)
def test_a_mask_of_another_shape_is_refused(model, mask):
    with pytest.raises(ValueError, match=r"does not fit inputs of 16 tokens; it takes \(2, 16\)"):
        model(IMAGES, mask)


def test_lists_are_arrays(model, asked_model):
    latents = np.ones((3, 8), np.float32)
    np.testing.assert_array_equal(
        model(IMAGES, latents=latents.tolist()), model(IMAGES, latents=latents)
    )
    queries = np.ones((4, 8), np.float32)
    np.testing.assert_array_equal(
        asked_model(IMAGES, queries=queries.tolist(), query_indices=[[3, 0]]),
        asked_model(IMAGES, queries=queries, query_indices=np.array([[3, 0]])),
    )
    decoder = asked_model.decoder
    prepared = decoder.prepare(np.ones((1, 3, 8)).tolist())
    np.testing.assert_array_equal(
        decoder.ask(prepared, queries.tolist()), decoder.ask(prepared, queries)
    )


def test_ask_takes_what_was_prepared_for_as_many_examples(asked_model):
    decoder = asked_model.decoder
    with pytest.raises(TypeError, match=r"ask takes what prepare\(latents\) returned, not ndarray"):
        decoder.ask(np.zeros((2, 3, 8)), np.zeros((4, 8)))
    prepared = decoder.prepare(np.zeros((2, 3, 8)))
    with pytest.raises(ValueError, match="queries for 3 examples do not fit latents prepared of 2"):
        decoder.ask(prepared, np.zeros((3, 4, 8)))


def test_queries_of_other_channels_or_axes_are_refused(asked_model):
    with pytest.raises(ValueError, match="queries of 7 channels .* takes .O, 8. or .B, O, 8."):
        asked_model(IMAGES, queries=np.zeros((4, 7)))
    with pytest.raises(ValueError, match=r"shape \(8,\) is no set of tokens; give"):
        asked_model(IMAGES, queries=np.zeros(8))


@pytest.mark.parametrize(
    "indices, message",
    [
        ([0], r"shape \(1,\) and type int32 do not choose among 4 queries"),
        ([[0.0]], "type float32 do not choose"),
        ([[0, 4]], "from 0 to 4 are not all in 0 to 3"),
        ([[-1]], "from -1 to -1 are not all in 0 to 3"),
    ],
)
def test_indices_that_choose_no_query_are_refused(asked_model, indices, message):
    with pytest.raises(ValueError, match=message):
        asked_model(IMAGES, queries=np.zeros((4, 8)), query_indices=indices)


def test_under_jit_an_index_beyond_the_last_gives_nan(asked_model):
    @jax.jit
    def answers(indices):
        return asked_model(IMAGES, queries=np.ones((4, 8)), query_indices=indices)

    some = np.asarray(answers(np.array([[3, 4, -1, 10**7]])))
    assert np.isfinite(some[:, 0]).all() and np.isnan(some[:, 1:]).all()
