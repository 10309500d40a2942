import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.beam_search import BeamSearch
from perceiver_jax.contrastive_search import ContrastiveSearch
from perceiver_jax.errors import UserError
from perceiver_jax.generate import generate, stream
from perceiver_jax.models import (
    CausalSequenceConfig,
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextEncoderConfig,
    build,
)
from perceiver_jax.sampling import GREEDY, Sampling
from perceiver_jax.windows import window
from tests.continuations import CONTEXT, LATENTS, VOCAB, make_model, prompt, view


@pytest.fixture
def model(float64, random_model):
    config = CausalSequenceConfig(
        vocab_size=VOCAB,
        max_seq_len=CONTEXT,
        max_latents=LATENTS,
        num_channels=16,
        num_heads=2,
        num_self_attention_layers=2,
        output_norm=True,
        init_scale=0.5,
    )
    return random_model(lambda: build(config, jax.random.key(0)))


WILD = Sampling(temperature=3.0)
"""Any token: a random model would else say the same one again and again."""


def recomputed(model, tokens, num_new, num_latents, refill):
    """Tokens by whole calls of the model on the documented windows."""
    tokens, made, key = list(tokens), [], jax.random.key(0)
    begins_with = num_latents
    sizes = {"max_seq_len": CONTEXT, "max_latents": LATENTS, "refill": refill}
    while len(made) < num_new:
        seen = window(len(tokens), begins_with, **sizes)
        begins_with = None
        for cached_steps in range(min(seen.num_steps, num_new - len(made))):
            logits = whole_call(model, tokens[seen.first :], seen.num_latents + cached_steps)
            key, now = jax.random.split(key)
            made.append(int(WILD(logits, now)[0]))
            tokens.append(made[-1])
    return made


def whole_call(model, tokens, num_latents):
    return model(jnp.asarray([tokens]), num_latents=num_latents)[:, -1]


@pytest.mark.parametrize("refill", ["half", "every"])
@pytest.mark.parametrize("max_seq_len", [1, 2, 7, 20, 32, 33])
def test_nothing_is_forgotten_while_all_tokens_fit_the_context(max_seq_len, refill):
    for max_latents in range(1, max_seq_len + 1):
        most = max_seq_len - max_latents
        sizes = {"max_seq_len": max_seq_len, "max_latents": max_latents, "refill": refill}
        for start in range(1, max_seq_len + 1):
            for num_latents in {max(1, start - most), max_latents}:
                made_at, seen = start, window(start, num_latents, **sizes)
                while made_at <= 2 * max_seq_len:
                    for steps in range(seen.num_steps):
                        latents = seen.num_latents + steps
                        prefix = made_at + steps - latents - seen.first
                        assert 1 <= latents <= max_latents and 0 <= prefix <= most
                        assert seen.first == 0 or made_at + steps > max_seq_len
                    made_at += seen.num_steps
                    seen = window(made_at, **sizes)
                    least = max_latents if refill == "every" else max(1, max_latents // 2)
                    assert seen.num_latents >= min(least, made_at)


@pytest.mark.parametrize("refill", ["half", "every"])
@pytest.mark.parametrize("length, num_latents", [(4, 2), (10, 6)])
def test_each_token_follows_from_all_before_it_while_these_fit_the_context(
    model, length, num_latents, refill
):
    tokens, key, num_new = prompt(length), jax.random.key(0), CONTEXT + 1 - length
    settings = {"num_latents": num_latents, "sampling": WILD, "refill": refill}
    (got,) = generate(model, [tokens], max_new_tokens=num_new, **settings)
    for i, token in enumerate(got.tolist()):
        _, latents = view(model.config, length, i, num_latents, refill)
        key, now = jax.random.split(key)
        assert token == int(WILD(whole_call(model, tokens, latents), now)[0])
        tokens.append(token)
    assert len(tokens) == CONTEXT + 1


@pytest.mark.parametrize("refill", ["half", "every"])
@pytest.mark.parametrize("length, num_latents", [(1, 1), (5, 2), (9, 6), (14, 1), (20, 6)])
def test_cached_steps_are_those_of_the_whole_model_in_every_regime(
    model, length, num_latents, refill
):
    # 30 tokens: latents grow, then the prefix, then the oldest tokens are forgotten.
    tokens = prompt(length)
    got = generate(
        model,
        [tokens],
        max_new_tokens=30,
        num_latents=num_latents,
        sampling=WILD,
        refill=refill,
    )
    wanted = recomputed(model, tokens, 30, num_latents, refill)
    assert len(set(wanted)) > 10
    assert got[0].tolist() == wanted


def test_a_prompt_among_longer_ones_goes_on_as_it_does_alone(model):
    prompts = [prompt(3), prompt(13, 1), prompt(8, 2)]
    settings = {"max_new_tokens": 12, "num_latents": 3, "sampling": GREEDY}
    together = generate(model, prompts, **settings)
    for tokens, got in zip(prompts, together, strict=True):
        assert got.tolist() == generate(model, [tokens], **settings)[0].tolist()


@pytest.mark.parametrize("refill", ["half", "every"])
def test_all_of_a_batch_have_the_windows_of_the_longest(model, refill):
    # At 18 tokens the longest keeps more latents than half of them.
    prompts, longest = [prompt(3), prompt(14, 1), prompt(8, 2)], 14
    settings = {"max_new_tokens": 25, "num_latents": 3, "sampling": GREEDY, "refill": refill}
    for tokens, got in zip(prompts, generate(model, prompts, **settings), strict=True):
        num_padding = longest - len(tokens)
        for i, token in enumerate(got.tolist()):
            first, latents = view(model.config, longest, i, 3, refill)
            logits = whole_call(model, tokens[max(0, first - num_padding) :], latents)
            assert token == int(logits[0].argmax())
            tokens = [*tokens, token]


@pytest.mark.parametrize("at_once", [1, 4, 64])
def test_a_stream_gives_the_same_tokens_in_pieces(model, at_once):
    prompts, settings = [prompt(5), prompt(7)], {"max_new_tokens": 21, "num_latents": 2}
    sampling, key = Sampling(temperature=0.7, top_k=9), jax.random.key(3)
    whole = generate(model, prompts, sampling=sampling, key=key, **settings)
    pieces = list(stream(model, prompts, sampling=sampling, key=key, at_once=at_once, **settings))
    assert max(piece.shape[1] for piece in pieces) <= at_once
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), np.stack(whole))


def test_sequences_end_with_their_first_stop_token(model):
    prompts, settings = [prompt(5), prompt(7)], {"max_new_tokens": 20, "sampling": GREEDY}
    free = generate(model, prompts, **settings)
    stop = int(free[0][6])
    ended = generate(model, prompts, stop_tokens=[stop], **settings)
    for row, got in zip(free, ended, strict=True):
        places = np.flatnonzero(row == stop)
        wanted = row[: places[0] + 1] if len(places) else row
        assert got.tolist() == wanted.tolist()


def test_a_stream_ends_when_every_sequence_has(model):
    (row,) = generate(model, [prompt(5)], max_new_tokens=20, sampling=GREEDY)
    settings = {"max_new_tokens": 20, "sampling": GREEDY, "stop_tokens": [int(row[2])]}
    assert len(list(stream(model, [prompt(5)], **settings))) <= 3


def test_arrays_are_prompts_as_well(model):
    settings = {"max_new_tokens": 5, "sampling": GREEDY}
    wanted = generate(model, [[1, 2, 3], [4, 5, 6]], **settings)
    got = generate(model, np.array([[1, 2, 3], [4, 5, 6]]), **settings)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("length, wanted", [(1, 1), (2, 2), (10, 3), (16, 3), (18, 4), (20, 6)])
def test_a_prompt_begins_with_half_of_the_latents_or_as_many_as_it_needs(model, length, wanted):
    settings = {"max_new_tokens": 12, "sampling": WILD}
    usual = generate(model, [prompt(length)], **settings)
    asked = generate(model, [prompt(length)], num_latents=wanted, **settings)
    np.testing.assert_array_equal(usual, asked)


def test_a_row_is_drawn_by_its_place_alone(model):
    alone = generate(model, [prompt(5)], max_new_tokens=9, sampling=WILD)
    among = generate(model, [prompt(5), prompt(5, 1)], max_new_tokens=9, sampling=WILD)
    np.testing.assert_array_equal(alone[0], among[0])
    twice = generate(model, [prompt(5), prompt(5)], max_new_tokens=9, sampling=WILD)
    assert twice[0].tolist() != twice[1].tolist()


@pytest.mark.parametrize("sampling", [GREEDY, WILD])
def test_suppressed_tokens_are_never_drawn(model, sampling):
    settings = {"max_new_tokens": 40, "sampling": sampling}
    (free,) = generate(model, [prompt(5)], **settings)
    kept = sorted(set(range(VOCAB)) - set(free[:8].tolist()))
    suppressed = [token for token in range(VOCAB) if token not in kept]
    (got,) = generate(model, [prompt(5)], suppress_tokens=suppressed, **settings)
    assert set(got.tolist()) <= set(kept)


@pytest.mark.parametrize("search", [BeamSearch(), ContrastiveSearch()])
def test_a_search_draws_nothing(model, search):
    with pytest.raises(UserError, match="give one of the two"):
        generate(model, [[1]], max_new_tokens=3, sampling=Sampling(top_k=4), search=search)


@pytest.mark.parametrize("at_once", [0, 2.5])
def test_pieces_of_no_tokens_are_refused(model, at_once):
    with pytest.raises(UserError, match=f"at_once={at_once} is "):
        stream(model, [[1]], max_new_tokens=3, at_once=at_once)


def test_random_tokens_follow_the_key_and_the_model_s_probabilities(model):
    tokens = [prompt(5)] * 4000
    first = [int(row[0]) for row in generate(model, tokens, max_new_tokens=1)]
    again = [int(row[0]) for row in generate(model, tokens, max_new_tokens=1)]
    other = generate(model, tokens, max_new_tokens=1, key=jax.random.key(1))
    assert first == again != [int(row[0]) for row in other]
    logits = model(jnp.asarray([tokens[0]]), num_latents=LATENTS // 2)[0, -1]
    frequencies = np.bincount(first, minlength=VOCAB) / len(first)
    np.testing.assert_allclose(frequencies, jax.nn.softmax(logits), atol=0.03)


@pytest.mark.parametrize(
    "prompts, fields, message",
    [
        ([], {}, "no prompt"),
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1] * 21], {"num_latents": 6}, "21 tokens is longer than this model's context"),
        ([[1] * 16], {"num_latents": 1}, "give num_latents=2 or more"),
        ([[1]], {"num_latents": 7}, "num_latents=7 is not between 1 and max_latents=6"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens=0"),
        ([[1, VOCAB]], {}, "prompt 0 has token 23, the model knows 0 to 22"),
        ([[1], [2**40]], {}, "prompt 1 has token 1099511627776"),
        ([1, 2], {}, "prompt 0 is 1, not a sequence of token ids"),
        (["abc"], {}, "prompt 0 is 'abc', not a sequence"),
        ([[1.5]], {}, "not a sequence of token ids"),
        ([[1]], {"refill": "all"}, "refill='all'"),
        ([[1]], {"stop_tokens": [VOCAB]}, "stop_tokens has 23, the model knows 0 to 22"),
        ([[1]], {"suppress_tokens": [-1]}, "suppress_tokens has -1"),
        ([[1]], {"suppress_tokens": range(VOCAB)}, "has every token"),
        (7, {}, "prompts=7 is no list of prompts"),
        (None, {}, "prompts=None is no list of prompts"),
        ([[[1], [2, 3]]], {}, "prompt 0 is .*, not a sequence of token ids"),
        ([[1]], {"max_new_tokens": 2.5}, "max_new_tokens=2.5 is no whole number; give"),
        ([[1]], {"max_new_tokens": None}, "max_new_tokens=None is no whole number"),
        ([[1]], {"max_new_tokens": True}, "max_new_tokens=True is no whole number"),
        ([[1]], {"num_latents": 2.5}, "num_latents=2.5 is no whole number; .* or leave it out"),
        ([[1]], {"num_latents": 0}, "num_latents=0 is too small"),
        ([[1]], {"num_latents": "2"}, "num_latents='2' is no whole number"),
        ([[1]], {"stop_tokens": ["."]}, r"stop_tokens=\['.'\] is no list of token ids.* as in"),
        ([[1]], {"stop_tokens": 6}, "stop_tokens=6 is no list of token ids"),
        ([[1]], {"stop_tokens": [6.7]}, "stop_tokens=.6.7. is no list of token ids"),
        ([[1]], {"suppress_tokens": "abc"}, "suppress_tokens='abc' is no list"),
        ([[1]], {"suppress_tokens": None}, "suppress_tokens=None is no list"),
        ([[1]], {"sampling": 0.5}, "sampling=0.5 is no Sampling; give .*temperature=0.5"),
        ([[1]], {"sampling": None}, "sampling=None is no Sampling"),
        ([[1]], {"search": "beam"}, "search='beam' is no search; give .*num_beams=4"),
    ],
)
def test_what_cannot_be_continued_is_refused(model, prompts, fields, message):
    with pytest.raises(UserError, match=message):
        generate(model, prompts, **{"max_new_tokens": 3, **fields})
    with pytest.raises(UserError, match=message):
        stream(model, prompts, **{"max_new_tokens": 3, **fields})


@pytest.mark.parametrize("function", [generate, stream])
def test_what_continues_no_sequence_is_refused(function):
    encoder = TextEncoderConfig(max_seq_len=8, num_input_channels=8)
    decoder = ClassificationDecoderConfig(num_classes=2, num_output_query_channels=8)
    config = PerceiverConfig(encoder=encoder, decoder=decoder, num_latents=4, num_latent_channels=8)
    for other in (build(config, jax.random.key(0)), "runs/clm"):
        with pytest.raises(UserError, match=f"{type(other).__name__} continues no sequences"):
            function(other, [[1]], max_new_tokens=3)


@pytest.mark.parametrize("function", [generate, stream])
@pytest.mark.parametrize("search", [None, BeamSearch(), ContrastiveSearch()])
def test_what_is_no_key_is_refused(model, function, search):
    if function is stream and isinstance(search, BeamSearch):
        pytest.skip("beam search is not streamed")
    with pytest.raises(ValueError, match="key=1 is no random key"):
        function(model, [[1]], max_new_tokens=3, search=search, key=1)


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("top_k", r"generate takes no argument 'top_k'; give sampling=Sampling\(top_k=…\)"),
        ("num_beams", r"give search=BeamSearch\(num_beams=…\)"),
        ("seed", r"give key=jax.random.key"),
        ("max_tokens", "did you mean 'max_new_tokens'"),
        ("zzz", "it has model, prompts, max_new_tokens"),
    ],
)
def test_other_arguments_are_answered_with_those_that_mean_the_same(model, argument, hint):
    with pytest.raises(TypeError, match=hint):
        generate(model, [[1]], **{argument: 3})


def test_numbers_of_numpy_and_any_collection_of_tokens_are_taken(model):
    settings = {"max_new_tokens": 9, "num_latents": 2, "sampling": GREEDY}
    (free,) = generate(model, [prompt(4)], **settings)
    stop = int(free[4])
    wanted = free[: free.tolist().index(stop) + 1].tolist()
    settings = {name: np.int64(value) for name, value in settings.items() if name != "sampling"}
    for stop_tokens in ({stop}, np.array([stop]), jnp.array([stop]), iter([stop])):
        (got,) = generate(model, [prompt(4)], sampling=GREEDY, stop_tokens=stop_tokens, **settings)
        assert got.tolist() == wanted


LEARNED = {"initial_queries": "learned"}
COUNTED_BACK = {"position_origin": "last", "rotary_fraction": 0.0}


@pytest.mark.parametrize("fields", [LEARNED, COUNTED_BACK], ids=["learned", "counted back"])
@pytest.mark.parametrize("search", [None, BeamSearch(num_beams=1)], ids=["greedy", "one beam"])
def test_a_model_without_cached_steps_takes_a_call_for_each_token(random_model, fields, search):
    model = make_model(random_model, **fields)
    tokens, wanted = prompt(4), []
    settings = {"max_new_tokens": 2 * LATENTS, "num_latents": 3, "refill": "every"}
    sampling = {} if search else {"sampling": GREEDY}
    got = generate(model, [tokens], search=search, **settings, **sampling)[0]
    for i in range(2 * LATENTS):
        ids = np.array([[*tokens, *wanted]])
        num_latents = 3 if i == 0 else min(LATENTS, ids.shape[1])
        wanted.append(int(model(ids, num_latents=num_latents)[0, -1].argmax()))
    assert got.tolist() == wanted


@pytest.mark.parametrize(
    "fields, settings, message",
    [
        (LEARNED, {}, "belong to places.*: each new token takes a whole call; take refill='every'"),
        (COUNTED_BACK, {}, "embeds all anew.* take refill='every'"),
        (
            LEARNED,
            {"refill": "every", "search": ContrastiveSearch()},
            "contrastive search has no steps",
        ),
        (
            {"position_shape": (5, 4), "rotary_fraction": 0.0},
            {},
            "2 positions, which counting does not tell; continue with model.prefill",
        ),
    ],
)
def test_models_that_cannot_go_on_are_refused(random_model, fields, settings, message):
    with pytest.raises(UserError, match=message):
        generate(make_model(random_model, **fields), [prompt(4)], max_new_tokens=2, **settings)
