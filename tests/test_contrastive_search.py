import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.contrastive_search import ContrastiveSearch
from perceiver_jax.errors import UserError
from perceiver_jax.generate import generate, stream
from perceiver_jax.sampling import GREEDY
from tests.continuations import VOCAB, Pairs, log_probabilities, make_model, prompt, view

# A random model finds all its states alike: only a high penalty keeps it from repeating a token.
SEARCH = ContrastiveSearch(top_k=5, penalty_alpha=0.97)


@pytest.fixture
def model(float64, random_model):
    return make_model(random_model)


@pytest.fixture(scope="module")
def hidden_states():
    """A function from ids and a number of latents to these latents' last hidden states."""

    def states(model, ids, num_latents):
        mask = jnp.ones(ids.shape, bool)
        _, hidden, _ = model.prefill(ids, mask, num_latents=num_latents, num_steps=0)
        return hidden

    return jax.jit(states, static_argnames="num_latents")


def recomputed(model, hidden_states, tokens, search, *, most, num_latents, refill="half"):
    """Tokens by whole calls of the model on each candidate, and where that was not greedy."""
    new, not_greedy = [], 0
    for _ in range(most):
        p = np.exp(log_probabilities(model, tokens, [new], num_latents, refill)[0])
        candidates = np.argsort(-p)[: search.top_k]
        first, latents = view(model.config, len(tokens), len(new) + 1, num_latents, refill)
        rows = jnp.asarray([[*tokens, *new, v][first:] for v in candidates])
        hidden = np.asarray(hidden_states(model, rows, latents))
        hidden = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
        likeness = (hidden[:, :-1] @ hidden[:, -1, :, None])[..., 0].max(1)
        scores = (1 - search.penalty_alpha) * p[candidates] - search.penalty_alpha * likeness
        best = int(scores.argmax())
        new.append(int(candidates[best]))
        not_greedy += best > 0
    return new, not_greedy


def test_hidden_states_are_what_logits_are_made_of(model, hidden_states):
    ids = jnp.asarray([prompt(12)])
    hidden = hidden_states(model, ids, 4)
    embedding = model.input_adapter.token_embedding[...]
    logits = model.output_adapter(hidden, embedding=embedding)
    np.testing.assert_allclose(logits, model(ids, num_latents=4), rtol=1e-9)


@pytest.mark.parametrize("refill", ["half", "every"])
@pytest.mark.parametrize("length, num_latents", [(1, 1), (14, 4), (20, 6)])
def test_tokens_are_those_of_whole_calls_of_the_model_in_every_regime(
    model, hidden_states, length, num_latents, refill
):
    # Latents grow, are used up, and the oldest tokens are forgotten.
    tokens, settings = prompt(length), {"num_latents": num_latents, "refill": refill}
    wanted, not_greedy = recomputed(model, hidden_states, tokens, SEARCH, most=16, **settings)
    (got,) = generate(model, [tokens], max_new_tokens=16, search=SEARCH, **settings)
    assert got.tolist() == wanted
    assert not_greedy > 2


@pytest.mark.parametrize("fields", [{"top_k": 1}, {"penalty_alpha": 0.0}])
@pytest.mark.parametrize("refill", ["half", "every"])
def test_without_candidates_or_without_a_penalty_it_is_greedy(model, fields, refill):
    settings = {"max_new_tokens": 20, "num_latents": 3, "refill": refill}
    prompts = [prompt(5), prompt(12)]
    wanted = generate(model, prompts, sampling=GREEDY, **settings)
    search = dataclasses.replace(SEARCH, **fields)
    np.testing.assert_array_equal(generate(model, prompts, search=search, **settings), wanted)


@pytest.mark.parametrize("shortest, max_latents", [(6, 6), (2, 18)])
def test_a_prompt_among_longer_ones_goes_on_as_it_does_alone(
    float64, random_model, shortest, max_latents
):
    # With 18 latents there is no refill, and the shortest prompt begins with padding as latents.
    model = make_model(random_model, max_seq_len=32, max_latents=max_latents)
    prompts = [prompt(shortest), prompt(14, 1), prompt(8, 2)]
    settings = {"max_new_tokens": 12, "num_latents": 6, "search": SEARCH}
    together = generate(model, prompts, **settings)
    for tokens, got in zip(prompts, together, strict=True):
        assert got.tolist() == generate(model, [tokens], **settings)[0].tolist()


def test_padding_counts_as_nothing_that_came_before():
    # Padding is token 0, whose state is that of token 2.
    hidden = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.5, 1.0], [1.0, 1.0], [1.0, 1.0]])
    model = Pairs.of(np.full((6, 6), [1e-9, 1e-9, 0.4, 0.5, 0.1, 1e-9]), hidden)
    search = ContrastiveSearch(top_k=2, penalty_alpha=0.5)
    settings = {"max_new_tokens": 1, "num_latents": 3, "search": search}
    padded, full = generate(model, [[1], [0, 1, 1]], **settings)
    assert (padded.tolist(), full.tolist()) == ([2], [3])


@pytest.mark.parametrize("at_once", [1, 4, 64])
def test_a_stream_gives_the_same_tokens_in_pieces(model, at_once):
    prompts, settings = [prompt(5), prompt(7)], {"max_new_tokens": 15, "num_latents": 2}
    whole = generate(model, prompts, search=SEARCH, **settings)
    pieces = list(stream(model, prompts, search=SEARCH, at_once=at_once, **settings))
    assert max(piece.shape[1] for piece in pieces) <= at_once
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), np.stack(whole))


def test_sequences_end_with_their_first_stop_token(model):
    prompts, settings = [prompt(5), prompt(7)], {"max_new_tokens": 12, "search": SEARCH}
    free = generate(model, prompts, **settings)
    stop = int(free[0][6])
    ended = generate(model, prompts, stop_tokens=[stop], **settings)
    for row, got in zip(free, ended, strict=True):
        places = np.flatnonzero(row == stop)
        assert got.tolist() == row[: places[0] + 1 if len(places) else len(row)].tolist()
    alone = stream(model, prompts[:1], stop_tokens=[stop], **settings)
    assert len(list(alone)) == len(ended[0])


def test_suppressed_tokens_are_not_taken_however_unlike_they_are(model):
    kept = [3, 8, 12]
    suppressed = [token for token in range(VOCAB) if token not in kept]
    search = ContrastiveSearch(top_k=VOCAB, penalty_alpha=1.0)
    settings = {"max_new_tokens": 12, "search": search}
    (free,) = generate(model, [prompt(5)], **settings)
    (got,) = generate(model, [prompt(5)], suppress_tokens=suppressed, **settings)
    assert not set(free.tolist()) <= set(kept) and set(got.tolist()) <= set(kept)


def test_the_best_is_probable_and_unlike_everything_before():
    p = jnp.log(jnp.asarray([[0.5, 0.3, 0.2]]))
    candidates = jnp.asarray([[0, 1, 2]])
    hidden = jnp.asarray([[[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]])
    context = jnp.asarray([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])

    def best(alpha, *mask):
        mask = jnp.asarray([mask], bool)
        search = ContrastiveSearch(penalty_alpha=alpha)
        return int(search.best(p, candidates, hidden, context, mask)[0])

    # Likeness is 1, 0.8 and 1; the last does not count where the third state is masked.
    assert best(0.0, 1, 1, 1) == 0
    assert best(0.4, 1, 1, 1) == 0  # 0.6 * 0.2 > 0.4 * 0.2
    assert best(0.6, 1, 1, 1) == 1
    assert best(0.6, 1, 1, 0) == 2
    assert best(0.6, 0, 0, 0) == 0


@pytest.mark.parametrize("refill, max_latents", [("half", 3), ("every", 1)])
def test_models_without_an_earlier_latent_are_refused(random_model, refill, max_latents):
    model = make_model(random_model, max_latents=max_latents)
    with pytest.raises(UserError, match=f"takes max_latents={max_latents + 1} or more"):
        stream(model, [[1, 2]], max_new_tokens=3, search=SEARCH, refill=refill)
    enough = make_model(random_model, max_latents=max_latents + 1)
    (made,) = generate(enough, [[1, 2]], max_new_tokens=9, search=SEARCH, refill=refill)
    assert len(made) == 9


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 0},
        {"top_k": 2.5},
        {"top_k": None},
        {"penalty_alpha": -0.1},
        {"penalty_alpha": float("nan")},
        {"penalty_alpha": "0.5"},
    ],
)
def test_values_that_mean_nothing_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(UserError, match=f"{name}={value!r} .*(give|between)"):
        ContrastiveSearch(**fields)
