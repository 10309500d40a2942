import itertools

import numpy as np
import pytest

from perceiver_jax.beam_search import BeamSearch, beam_search
from perceiver_jax.errors import UserError
from perceiver_jax.generate import generate, stream
from perceiver_jax.prompts import Request
from perceiver_jax.sampling import GREEDY
from tests.continuations import VOCAB, Pairs, log_probabilities, make_model, prompt


@pytest.fixture
def model(float64, random_model):
    return make_model(random_model)


def hypotheses(model, prompts, search, **settings):
    usual = {"num_latents": None, "stop_tokens": (), "suppress_tokens": (), "refill": "half"}
    request = Request.checked(model.config, prompts, **usual | settings)
    return beam_search(model, request, search)


def recomputed(model, tokens, search, *, most, num_latents, refill="half", stop=()):
    """Scores and tokens of hypotheses, by sorted lists and whole calls of the model."""
    beams, ended = [(0.0, ())], []
    for length in range(1, most + 1):
        rows = [beam for _, beam in beams]
        log_p = log_probabilities(model, tokens, rows, num_latents, refill)
        candidates = sorted(
            (
                (total + log_p[i, token], (*beam, token))
                for i, (total, beam) in enumerate(beams)
                for token in range(log_p.shape[1])
            ),
            reverse=True,
        )
        ends = [length == most or row[-1] in stop for _, row in candidates]
        best = list(zip(candidates, ends, strict=True))[: search.num_beams]
        ended += [(total / length**search.length_penalty, row) for (total, row), end in best if end]
        ended = sorted(ended, reverse=True)[: search.num_beams]
        beams = [beam for beam, end in zip(candidates, ends, strict=True) if not end]
        beams = beams[: search.num_beams]
        if len(ended) == search.num_beams and beams:
            never = search.early_stopping == "never" and search.length_penalty > 0
            hoped_for = beams[0][0] / (most if never else length) ** search.length_penalty
            if search.early_stopping is True or hoped_for <= ended[-1][0]:
                break
    return ended


def assert_same(got, wanted):
    assert [tuple(one.tokens.tolist()) for one in got] == [tokens for _, tokens in wanted]
    scores = [one.score for one in got]
    np.testing.assert_allclose(scores, [score for score, _ in wanted], rtol=1e-10)


@pytest.mark.parametrize(
    "length, num_latents, refill",
    [(1, 1, "half"), (14, 4, "half"), (20, 6, "half"), (7, 5, "every")],
)
def test_beams_are_those_of_whole_calls_of_the_model_in_every_regime(
    model, length, num_latents, refill
):
    # Latents grow, are used up twice, and the oldest tokens are forgotten.
    search, tokens = BeamSearch(num_beams=3), prompt(length)
    settings = {"num_latents": num_latents, "refill": refill}
    (got,) = hypotheses(model, [tokens], search, max_new_tokens=12, **settings)
    assert_same(got, recomputed(model, tokens, search, most=12, **settings))


@pytest.mark.parametrize(
    "length_penalty, early_stopping",
    [
        *((1.0, stopping) for stopping in (False, True, "never")),
        *((2.5, stopping) for stopping in (False, True, "never")),
        (0.0, "never"),
        (-1.0, False),
    ],
)
def test_hypotheses_end_with_stop_tokens_and_the_best_are_kept(
    model, length_penalty, early_stopping
):
    search = BeamSearch(num_beams=3, length_penalty=length_penalty, early_stopping=early_stopping)
    tokens, stop = prompt(9), tuple(range(0, VOCAB, 3))
    settings = {"num_latents": 4}
    (got,) = hypotheses(model, [tokens], search, max_new_tokens=9, stop_tokens=stop, **settings)
    assert_same(got, recomputed(model, tokens, search, most=9, stop=stop, **settings))
    assert any(one.tokens[-1] in stop for one in got)


@pytest.mark.parametrize(
    "early_stopping, wanted",
    [(True, [(1,), (2,)]), (False, [(1,), (2,)]), ("never", [(3, *[5] * 5), (4, *[5] * 5)])],
)
def test_a_hypothesis_that_gains_by_its_length_is_waited_for_only_if_asked(early_stopping, wanted):
    p = np.full((6, 6), 1e-9)
    p[0] = [0, 0.31, 0.3, 0.2, 0.19, 0]
    p[3, 5] = p[4, 5] = p[5, 5] = 1.0
    model = Pairs.of(p)
    search = BeamSearch(num_beams=2, early_stopping=early_stopping)
    settings = {"max_new_tokens": 6, "stop_tokens": [1, 2]}
    (got,) = hypotheses(model, [[0]], search, **settings)
    assert [tuple(one.tokens.tolist()) for one in got] == wanted


def test_beams_go_on_however_many_stop_tokens_are_better():
    p = np.full((6, 6), 1e-9)
    p[0] = [0, 0.3, 0.3, 0.3, 0.06, 0.04]
    p[4, 1:4], p[5, 5] = 1 / 3, 1.0
    model = Pairs.of(p)
    search = BeamSearch(num_beams=2, early_stopping="never")
    settings = {"max_new_tokens": 6, "stop_tokens": [1, 2, 3]}
    (got,) = hypotheses(model, [[0]], search, **settings)
    assert got[0].tokens.tolist() == [5] * 6


def test_as_many_beams_as_there_are_sequences_find_all_of_them(float64, random_model):
    # Latents are used up at every second token.
    model = make_model(random_model, vocab_size=3, max_latents=2)
    tokens, most, stop = [0, 1, 2, 1], 4, 2
    wanted = []
    for length in range(1, most + 1):
        for row in itertools.product(range(3), repeat=length):
            if stop not in row[:-1] and (length == most or row[-1] == stop):
                total = sum(
                    log_probabilities(model, tokens, [row[:i]], 1)[0, token]
                    for i, token in enumerate(row)
                )
                wanted.append((total / length**0.7, row))
    search = BeamSearch(num_beams=3**most, length_penalty=0.7)
    (got,) = hypotheses(model, [tokens], search, max_new_tokens=most, stop_tokens=[stop])
    assert_same(got, sorted(wanted, reverse=True))
    (best,) = generate(model, [tokens], max_new_tokens=most, stop_tokens=[stop], search=search)
    assert tuple(best.tolist()) == max(wanted)[1]


@pytest.mark.parametrize("refill", ["half", "every"])
def test_one_beam_is_greedy(model, refill):
    prompts = [prompt(5), prompt(12, 1)]
    (row, _) = generate(model, prompts, max_new_tokens=25, sampling=GREEDY, refill=refill)
    settings = {"max_new_tokens": 25, "refill": refill, "stop_tokens": [int(row[9])]}
    wanted = generate(model, prompts, sampling=GREEDY, **settings)
    got = generate(model, prompts, search=BeamSearch(num_beams=1), **settings)
    assert [x.tolist() for x in got] == [x.tolist() for x in wanted]


def test_a_prompt_among_longer_ones_is_searched_as_it_is_alone(model):
    prompts = [prompt(3), prompt(13, 1), prompt(8, 2)]
    settings = {"max_new_tokens": 12, "num_latents": 3, "stop_tokens": [2, 7, 11]}
    together = hypotheses(model, prompts, BeamSearch(num_beams=3), **settings)
    for tokens, got in zip(prompts, together, strict=True):
        (alone,) = hypotheses(model, [tokens], BeamSearch(num_beams=3), **settings)
        assert_same(got, [(one.score, tuple(one.tokens.tolist())) for one in alone])


def test_more_beams_find_what_is_no_less_probable(model):
    settings = {"max_new_tokens": 14, "num_latents": 2}
    best = [
        hypotheses(model, [prompt(5)], BeamSearch(num_beams=n), **settings)[0][0].score
        for n in (1, 30)
    ]
    assert best[0] < best[1]


def test_suppressed_tokens_have_no_probability(model):
    tokens, search = prompt(6), BeamSearch(num_beams=2)
    settings = {"max_new_tokens": 6, "num_latents": 3}
    (free,) = hypotheses(model, [tokens], search, **settings)
    suppressed = sorted({int(token) for one in free for token in one.tokens})
    (got,) = hypotheses(model, [tokens], search, suppress_tokens=suppressed, **settings)
    total = 0.0
    for i, token in enumerate(got[0].tokens):
        log_p = log_probabilities(model, tokens, [got[0].tokens[:i]], 3)[0]
        left = np.delete(log_p, suppressed)
        assert token not in suppressed
        total += log_p[token] - np.log(np.exp(left).sum())
    np.testing.assert_allclose(got[0].score, total / 6)


def test_sequences_without_another_token_end(model):
    # Every token but one is suppressed: there is one beam, and one hypothesis.
    only = {"suppress_tokens": [token for token in range(VOCAB) if token != 4]}
    (got,) = hypotheses(model, [[1]], BeamSearch(num_beams=3), max_new_tokens=5, **only)
    assert [(one.tokens.tolist(), one.score) for one in got] == [([4] * 5, 0.0)]
    stopped = {"stop_tokens": [4], **only}
    (got,) = hypotheses(model, [[1]], BeamSearch(num_beams=3), max_new_tokens=5, **stopped)
    assert [one.tokens.tolist() for one in got] == [[4]]


def test_long_searches_go_on_over_many_compiled_loops(random_model):
    model = make_model(random_model, max_seq_len=300, max_latents=200)
    search, settings = BeamSearch(num_beams=1), {"max_new_tokens": 150, "num_latents": 1}
    (wanted,) = generate(model, [[1, 2]], sampling=GREEDY, **settings)
    (got,) = generate(model, [[1, 2]], search=search, **settings)
    np.testing.assert_array_equal(got, wanted)


def test_a_search_cannot_be_streamed(model):
    with pytest.raises(UserError, match="cannot be streamed"):
        stream(model, [[1]], max_new_tokens=3, search=BeamSearch())


@pytest.mark.parametrize(
    "fields",
    [
        {"num_beams": 0},
        {"num_beams": 2.5},
        {"num_beams": "4"},
        {"num_beams": None},
        {"length_penalty": "1"},
        {"length_penalty": None},
        {"length_penalty": float("nan")},
        {"length_penalty": float("inf")},
        {"early_stopping": "always"},
        {"early_stopping": 2},
        {"early_stopping": 1},
        {"early_stopping": None},
    ],
)
def test_values_that_mean_nothing_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(UserError, match=f"{name}={value!r} .*(give|takes|must be)"):
        BeamSearch(**fields)
