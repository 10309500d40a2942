"""Texts to their continuations, and `python -m perceiver_jax.run generate-text`."""

import dataclasses
import re

import jax
import pytest

from perceiver_jax import models, run
from perceiver_jax.beam_search import BeamSearch
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.contrastive_search import ContrastiveSearch
from perceiver_jax.errors import UserError
from perceiver_jax.generate import generate, stream
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.models.release import release
from perceiver_jax.pipelines.text_generation import TextGeneration
from perceiver_jax.sampling import GREEDY, Sampling

LETTERS = Sampling(temperature=0.5, top_k=3)


@pytest.fixture(scope="module")
def causal_release(random_model):
    config = CausalSequenceConfig(
        max_seq_len=32, max_latents=8, num_channels=16, num_heads=2, num_self_attention_layers=1
    )
    found = release(random_model(lambda: models.build(config, jax.random.key(0))))
    card = ModelCard(text=TextPreprocessing(add_special_tokens=False))
    # A bias that lets the random model say letters and special tokens only.
    bias = found.arrays["output_adapter/bias"].copy()
    bias[:], bias[6 + 97 : 6 + 107] = -100.0, 0.0
    return dataclasses.replace(
        found, card=card, arrays={**found.arrays, "output_adapter/bias": bias}
    )


def test_a_text_is_continued_by_the_model_s_tokens(causal_release):
    generation = TextGeneration(causal_release)
    (text,) = generation(["some text"], max_new_tokens=20, sampling=GREEDY)
    ids = [6 + byte for byte in b"some text"]
    (tokens,) = generate(generation.model, [ids], max_new_tokens=20, sampling=GREEDY)
    assert text == bytes(int(token) - 6 for token in tokens).decode()
    assert len(text) == 20


def test_a_stream_is_the_same_text_in_pieces(causal_release):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 30, "sampling": LETTERS, "seed": 5}
    (whole,) = generation(["some text"], **settings)
    pieces = list(generation.stream("some text", **settings))
    assert "".join(pieces) == whole and len(pieces) > 10


def test_of_a_text_longer_than_the_model_its_end_is_seen(causal_release):
    generation = TextGeneration(causal_release)
    long = "x" * 50 + "the end of a text that is long"
    settings = {"max_new_tokens": 8, "sampling": LETTERS}
    wanted = generation([long[-32:]], **settings)
    told = "a text of 80 tokens is longer .* max_seq_len=32: the first 48 are not seen"
    with pytest.warns(UserWarning, match=told):
        assert generation([long], **settings) == wanted
    with pytest.warns(UserWarning, match=told):
        assert ["".join(generation.stream(long, **settings))] == wanted


@pytest.mark.parametrize("name", ["__call__", "stream"])
def test_arguments_of_others_are_answered_with_those_of_the_pipeline(causal_release, name):
    continued = getattr(TextGeneration(causal_release), name)
    with pytest.raises(TypeError, match="TextGeneration.* no argument 'stop'; give stop_texts="):
        continued(["some text"], stop=".")
    with pytest.raises(TypeError, match="give seed=0"):
        continued(["some text"], key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"give sampling=Sampling\(top_p=…\)"):
        continued(["some text"], top_p=0.5)


def test_a_stop_token_ends_a_text_and_is_no_part_of_it(causal_release):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 30, "sampling": LETTERS}
    (free,) = generation(["some text"], **settings)
    letter = free[3]
    (ended,) = generation(["some text"], stop_tokens=[6 + ord(letter)], **settings)
    assert ended == free[: free.index(letter)]


@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_stop_text_of_any_length_ends_a_text_and_its_stream(causal_release, length):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 40, "sampling": LETTERS}
    texts = ["some text", "another text"]
    free = generation(texts, **settings)
    stop = free[0][17 : 17 + length]
    wanted = [text.split(stop)[0] for text in free]
    assert wanted[0] != free[0]
    settings["stop_texts"] = ["none of this", stop]
    assert generation(texts, **settings) == wanted
    pieces = list(generation.stream(texts[0], **settings))
    assert "".join(pieces) == wanted[0] and all(pieces)


def test_a_stream_ends_before_a_stop_token_as_the_call_does(causal_release):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 30, "sampling": LETTERS}
    (free,) = generation(["some text"], **settings)
    settings["stop_tokens"] = [6 + ord(free[5])]
    (ended,) = generation(["some text"], **settings)
    assert ended == free[: free.index(free[5])]
    assert "".join(generation.stream("some text", **settings)) == ended


def test_generation_ends_with_its_last_stop_text(causal_release, monkeypatch):
    generation = TextGeneration(causal_release)
    made = []

    def counted(*args, **settings):
        for tokens in stream(*args, **settings):
            made.append(tokens)
            yield tokens

    monkeypatch.setattr("perceiver_jax.pipelines.text_generation.stream", counted)
    letters = [chr(ord("a") + i) for i in range(10)]
    assert generation(["some", "text"], max_new_tokens=200, stop_texts=letters) == ["", ""]
    assert sum(tokens.shape[1] for tokens in made) < 100


@pytest.mark.parametrize(
    "search", [BeamSearch(num_beams=3), ContrastiveSearch(top_k=3, penalty_alpha=0.9)]
)
def test_a_text_is_searched_for(causal_release, search):
    generation = TextGeneration(causal_release)
    (text,) = generation(["some text"], max_new_tokens=12, search=search)
    ids = [6 + byte for byte in b"some text"]
    (tokens,) = generate(generation.model, [ids], max_new_tokens=12, search=search)
    assert text == bytes(int(token) - 6 for token in tokens).decode()


def test_contrastive_search_is_streamed_and_ends_with_stop_texts(causal_release):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 20, "search": ContrastiveSearch(top_k=3, penalty_alpha=0.9)}
    (free,) = generation(["some text"], **settings)
    stop = free[10:12]
    pieces = list(generation.stream("some text", stop_texts=[stop], **settings))
    assert "".join(pieces) == free.split(stop)[0]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"stop_texts": ["a", ""]}, "empty stop text"),
        ({"stop_texts": "abc"}, "'abc' is one text; give a list"),
        ({"stop_texts": ["a"], "search": BeamSearch()}, "give stop tokens .*, or no beams"),
        ({"sampling": GREEDY, "search": BeamSearch()}, "give one of the two"),
        ({"stop_texts": [3]}, "stop_texts has 3, which is no text; .* as stop_tokens"),
        ({"stop_texts": 3}, "stop_texts=3 is no list of texts"),
        ({"stop_texts": None}, "stop_texts=None is no list of texts"),
        ({"stop_tokens": ["."]}, "stop_tokens=.* is no list of token ids"),
        ({"stop_tokens": 6, "stop_texts": ["a"]}, "stop_tokens=6 is no list of token ids"),
        ({"stop_tokens": [6.7]}, "stop_tokens=.* is no list of token ids"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5 is no whole number"),
        ({"search": "beam"}, "search='beam' is no search"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(causal_release, settings, words):
    generation = TextGeneration(causal_release)
    with pytest.raises(UserError, match=words):
        generation(["text"], **settings)
    if not isinstance(settings.get("search"), BeamSearch):
        with pytest.raises(UserError, match=words):
            next(generation.stream("text", **settings))


@pytest.mark.parametrize("texts", ["a text", [], 3, [3], [["a"]]])
def test_what_is_no_list_of_texts_is_refused(causal_release, texts):
    with pytest.raises(UserError, match="give a list of texts"):
        TextGeneration(causal_release)(texts)


def test_the_seed_matters(causal_release):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 20, "sampling": Sampling(top_k=5)}
    texts = [generation(["some text"], seed=seed, **settings)[0] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_what_cannot_be_continued_is_refused(causal_release, text_release):
    with pytest.raises(UserError, match="^a masked language model .* continues no text"):
        TextGeneration(text_release())
    with pytest.raises(UserError, match="num_latents=9"):
        TextGeneration(causal_release)(["a"], num_latents=9)
    with pytest.raises(UserError, match="no tokens to begin with"):
        TextGeneration(causal_release)([""])


@pytest.mark.parametrize("texts", [["some text"], ["some text", "more"]])
def test_the_command_prints_texts_with_their_continuations(causal_release, tmp_path, capsys, texts):
    causal_release.save(tmp_path)
    options = ["--max-new-tokens=12", "--top-k=3", "--num-latents=2", "--seed=1"]
    assert run.main(["generate-text", f"--source=ours:{tmp_path}", *options, *texts]) == 0
    shown = capsys.readouterr().out
    wanted = TextGeneration(causal_release)(
        texts, max_new_tokens=12, num_latents=2, sampling=Sampling(top_k=3), seed=1
    )
    for text, continuation in zip(texts, wanted, strict=True):
        assert f"{text}{continuation}\n" in shown


@pytest.mark.parametrize(
    "options, settings",
    [
        (["--num-beams=3"], {"search": BeamSearch(num_beams=3)}),
        (
            ["--num-beams=2", "--length-penalty=-0.5", "--stop-token=c"],
            {
                "search": BeamSearch(num_beams=2, length_penalty=-0.5),
                "stop_tokens": [6 + ord("c")],
            },
        ),
        (
            ["--penalty-alpha=0.9", "--top-k=3"],
            {"search": ContrastiveSearch(top_k=3, penalty_alpha=0.9)},
        ),
        (["--temperature=0.5", "--stop=none", "--stop=ab"], {"stop_texts": ["ab", "none"]}),
    ],
)
def test_the_command_searches_and_stops(causal_release, tmp_path, capsys, options, settings):
    causal_release.save(tmp_path)
    command = ["generate-text", f"--source=ours:{tmp_path}", "--max-new-tokens=12"]
    assert run.main([*command, *options, "some text"]) == 0
    if "search" not in settings:
        settings = {"sampling": Sampling(temperature=0.5), **settings}
    (wanted,) = TextGeneration(causal_release)(["some text"], max_new_tokens=12, **settings)
    assert capsys.readouterr().out == f"some text{wanted}\n"


@pytest.fixture(scope="module")
def spelled_release(causal_release):
    """Says 'a' or, more rarely, 'b', whatever came before."""
    bias = causal_release.arrays["output_adapter/bias"].copy()
    bias[:], bias[6 + 97], bias[6 + 98] = -1e4, 1000.0, 999.0
    arrays = {**causal_release.arrays, "output_adapter/bias": bias}
    return dataclasses.replace(causal_release, arrays=arrays)


def command_output(capsys, folder, *options):
    assert run.main(["generate-text", f"--source=ours:{folder}", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("texts", [["text"], ["text", "more"]])
def test_the_length_penalty_of_the_command_chooses_the_length(
    spelled_release, tmp_path, capsys, texts
):
    spelled_release.save(tmp_path)
    options = ["--max-new-tokens=6", "--num-beams=4", "--stop-token=b"]
    short = command_output(capsys, tmp_path, *options, "--length-penalty=-3", *texts)
    long = command_output(capsys, tmp_path, *options, "--length-penalty=3", *texts)
    assert [line for line in short.splitlines() if line] == texts
    assert [line for line in long.splitlines() if line] == [f"{text}aaaaaa" for text in texts]


@pytest.mark.parametrize("texts", [["some text"], ["some text", "another"]])
def test_the_command_ends_drawn_texts_with_stop_tokens(causal_release, tmp_path, capsys, texts):
    causal_release.save(tmp_path)
    settings = {"max_new_tokens": 30, "sampling": Sampling(temperature=20.0, top_k=10)}
    wanted = [
        re.split("[de]", text)[0] for text in TextGeneration(causal_release)(texts, **settings)
    ]
    assert max(map(len, wanted)) < 30
    options = ["--max-new-tokens=30", "--temperature=20", "--top-k=10", "--stop-token=d"]
    shown = command_output(capsys, tmp_path, *options, f"--stop-token={6 + ord('e')}", *texts)
    for text, continuation in zip(texts, wanted, strict=True):
        assert f"{text}{continuation}\n" in shown


@pytest.mark.parametrize(
    "token, wanted", [("a", 103), ("7", 7), ("[EOS]", 2), ("\n", 16), ("<0x0A>", 16), (" ", 38)]
)
def test_a_token_is_told_by_its_text_or_its_spelling_or_its_id(causal_release, token, wanted):
    assert TextGeneration(causal_release).reader.token_id(token) == wanted


def test_models_of_bytes_behind_markers_have_no_tokenizer(random_model):
    config = CausalSequenceConfig(
        vocab_size=259, max_seq_len=32, max_latents=8, num_channels=16, num_heads=2
    )
    found = release(random_model(lambda: models.build(config, jax.random.key(0))))
    for tokenizer in (None, "bytes"):
        with pytest.raises(UserError, match="no text, and have no tokenizer; give ids to the mod"):
            TextGeneration(found, tokenizer)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--num-beams=2", "--penalty-alpha=0.5"], "two searches; give one of them"),
        (["--penalty-alpha=0.5"], "give their number as well, as in --top-k=4"),
        (["--length-penalty=2"], "give their number, as in --num-beams=4"),
        (["--length-penalty=2", "--num-beams=2"], "give one, as in --stop-token=."),
        (["--stop-token=ab"], "'ab' is 2 tokens of tokenizer 'bytes', not one"),
        (["--stop-token="], "'' is 0 tokens of tokenizer 'bytes', not one"),
        (["--stop-token=262"], "stop_tokens has 262, the model knows 0 to 261"),
        (["--num-beams=2", "--top-k=4"], "--top-k would draw tokens at random"),
        (["--num-beams=2", "--temperature=1"], "--temperature would draw"),
        (["--penalty-alpha=0.5", "--top-k=2", "--top-p=0.5"], "--top-p would draw"),
        (["--penalty-alpha=2", "--top-k=4"], "penalty_alpha=2.0 is not between 0 and 1"),
        (["--num-beams=2", "--stop=x"], "give stop tokens (--stop-token on the command line)"),
        (["--stop="], "empty stop text"),
    ],
)
def test_options_that_cannot_be_followed_are_told(causal_release, tmp_path, capsys, options, words):
    causal_release.save(tmp_path)
    assert run.main(["generate-text", f"--source=ours:{tmp_path}", *options, "text"]) == 1
    errors = capsys.readouterr().err
    assert words in errors and "Traceback" not in errors


@pytest.mark.parametrize("option", ["--temperature=-1", "--top-p=0", "--num-latents=100"])
def test_options_out_of_range_are_told(causal_release, tmp_path, capsys, option):
    causal_release.save(tmp_path)
    assert run.main(["generate-text", f"--source=ours:{tmp_path}", option, "text"]) != 0
    assert option.split("=")[0].strip("-").replace("-", "_") in capsys.readouterr().err
