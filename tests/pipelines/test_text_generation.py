"""Texts to their continuations, and `python -m perceiver_jax.run generate-text`."""

import dataclasses

import jax
import pytest

from perceiver_jax import models, run
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.errors import UserError
from perceiver_jax.generate import generate
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
    assert generation([long], **settings) == generation([long[-32:]], **settings)


def test_a_stop_token_ends_a_text_and_is_no_part_of_it(causal_release):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 30, "sampling": LETTERS}
    (free,) = generation(["some text"], **settings)
    letter = free[3]
    (ended,) = generation(["some text"], stop_tokens=[6 + ord(letter)], **settings)
    assert ended == free[: free.index(letter)]


def test_the_seed_matters(causal_release):
    generation = TextGeneration(causal_release)
    settings = {"max_new_tokens": 20, "sampling": Sampling(top_k=5)}
    texts = [generation(["some text"], seed=seed, **settings)[0] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_what_cannot_be_continued_is_refused(causal_release, text_release):
    with pytest.raises(UserError, match="TextEncoderConfig continues no text|PerceiverConfig"):
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


@pytest.mark.parametrize("option", ["--temperature=-1", "--top-p=0", "--num-latents=100"])
def test_options_out_of_range_are_told(causal_release, tmp_path, capsys, option):
    causal_release.save(tmp_path)
    assert run.main(["generate-text", f"--source=ours:{tmp_path}", option, "text"]) != 0
    assert option.split("=")[0].strip("-").replace("-", "_") in capsys.readouterr().err
