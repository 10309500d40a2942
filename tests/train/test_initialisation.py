"""Which weights a run may start from, and what is said of those that do not fit."""

import dataclasses

import jax
import numpy as np
import pytest

from interop import FORMATS
from interop.expressible import nearest
from perceiver_jax import models
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.data.text.fast_tokenizer import FastTokenizer
from perceiver_jax.data.text.train_tokenizer import train
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import Release, release
from perceiver_jax.train.initialisation import (
    PretrainedConfig,
    check_tokenizer,
    described_start,
    initial_arrays,
)
from tests.train.tiny_texts import classifier, language_model

BYTES = ModelCard(text=TextPreprocessing())


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, random_model):
    config = language_model(tmp_path_factory.mktemp("rows")).model
    found = release(random_model(lambda: models.build(config, jax.random.key(0))))
    return dataclasses.replace(found, card=BYTES)


def take(found, config, part, card=BYTES, files=None):
    wanted = Release(config=config, arrays={}, card=card, files=files or {})
    return initial_arrays(found, PretrainedConfig(part=part), wanted, models.skeleton(config))


def encoder(config, **fields):
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, **fields))


def test_a_whole_model_is_taken_whole(pretrained):
    arrays = take(pretrained, pretrained.config, "model")
    assert arrays.keys() == models.skeleton(pretrained.config).params.keys()
    assert all(arrays[path] is pretrained.arrays[path] for path in arrays)


def test_an_encoder_is_taken_alone_by_a_model_with_another_decoder(pretrained, tmp_path):
    config = classifier(tmp_path).model
    arrays = take(pretrained, config, "encoder")
    want = {path for path in models.skeleton(config).params if path.startswith("encoder/")}
    assert arrays.keys() == want
    with pytest.raises(UserError, match="a TextDecoderConfig there, a ClassificationDecoderConfig"):
        take(pretrained, config, "model")


def test_rates_of_dropout_and_the_like_may_differ(pretrained):
    config = encoder(pretrained.config, dropout=0.5, remat=True, init_scale=1.0, unroll=True)
    assert take(pretrained, config, "encoder")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"activation": "gelu_tanh"}, "encoder.activation: 'gelu' there, 'gelu_tanh' here"),
        ({"num_self_attention_heads": 4}, "encoder.num_self_attention_heads: 2 there, 4 here"),
        ({"max_seq_len": 40}, "encoder.max_seq_len: 80 there, 40 here"),
        ({"num_input_channels": 6}, "encoder.num_input_channels: 8 there, 6 here"),
    ],
)
def test_an_encoder_of_another_function_is_refused_with_what_differs(pretrained, fields, message):
    with pytest.raises(UserError, match=message):
        take(pretrained, encoder(pretrained.config, **fields), "encoder")


def test_other_sizes_of_latents_are_refused(pretrained):
    with pytest.raises(UserError, match="num_latents: 4 there, 5 here"):
        take(pretrained, dataclasses.replace(pretrained.config, num_latents=5), "encoder")


def test_arrays_that_are_missing_or_unknown_are_named(pretrained):
    path = "encoder/latents"
    arrays = {p: x for p, x in pretrained.arrays.items() if p != path}
    arrays["encoder/other"] = np.zeros(3)
    with pytest.raises(UserError) as error:
        take(dataclasses.replace(pretrained, arrays=arrays), pretrained.config, "encoder")
    assert "encoder/latents (4, 8) is missing there" in str(error.value)
    assert "encoder/other is unknown here" in str(error.value)


def test_ids_of_another_tokenizer_are_refused(pretrained, tmp_path):
    def files(*texts):
        path = tmp_path / "tokenizer.json"
        train(texts, vocab_size=262, lowercase=False).save(str(path))
        return FastTokenizer("tokenizer.json", path).files

    card = ModelCard(text=TextPreprocessing(tokenizer="tokenizer.json"))
    mine, yours = files("ab" * 9), files("cd" * 9)
    with pytest.raises(UserError, match="tokenizer: 'bytes' there, 'tokenizer.json' here"):
        take(pretrained, pretrained.config, "encoder", card, mine)
    there = dataclasses.replace(pretrained, card=card, files=yours)
    with pytest.raises(UserError, match="the two called 'tokenizer.json' are not the same"):
        take(there, pretrained.config, "encoder", card, mine)
    same = dataclasses.replace(there, files={"tokenizer.json": mine["tokenizer.json"] + b"\n"})
    assert take(same, pretrained.config, "encoder", card, mine)


def test_weights_of_an_unknown_tokenizer_are_taken(pretrained):
    assert take(dataclasses.replace(pretrained, card=ModelCard()), pretrained.config, "model")


def small_published():
    """DeepMind's language model with few channels, the decoder with those of Hugging Face."""
    published = models.language_perceiver()
    sizes = {"max_seq_len": 16}
    encoder = dataclasses.replace(
        published.encoder,
        num_input_channels=8,
        num_cross_attention_qk_channels=16,
        num_cross_attention_v_channels=16,
        num_self_attention_qk_channels=16,
        num_self_attention_v_channels=16,
        num_self_attention_layers_per_block=2,
        **sizes,
    )
    decoder = dataclasses.replace(published.decoder, num_cross_attention_v_channels=8, **sizes)
    return dataclasses.replace(
        published, encoder=encoder, decoder=decoder, num_latents=4, num_latent_channels=16
    )


@pytest.mark.parametrize("name", ["deepmind", "huggingface", "krasserm"])
def test_the_language_model_of_a_format_starts_ours(name, random_model):
    """Padding is treated in another way there, and channels may be written out."""
    module, ours = FORMATS[name], small_published()
    theirs = module.config(module.settings(nearest(module, ours)[0]))
    halves = {
        half: dataclasses.replace(getattr(ours, half), activation=getattr(theirs, half).activation)
        for half in ("encoder", "decoder")
    }
    ours = dataclasses.replace(ours, **halves)
    found = release(random_model(lambda: models.build(theirs, jax.random.key(0))))
    for part in ("model", "encoder"):
        assert take(dataclasses.replace(found, card=BYTES), ours, part)


def test_it_is_said_where_weights_come_from_and_how_many_they_are(pretrained, tmp_path):
    config = classifier(tmp_path).model
    skeleton = models.skeleton(config)
    taken = take(pretrained, config, "encoder")
    number = sum(x.size for x in taken.values())
    total = sum(x.size for x in skeleton.params.values())
    assert 0 < number < total
    line = described_start("runs/mlm", "step 500 of the run 'mlm'", taken, skeleton)
    start = "pretrained   runs/mlm (step 500 of the run 'mlm'): "
    assert line == f"{start}{number:,} of {total:,} parameters"
    assert described_start("x:y", None, {}, skeleton).startswith("pretrained   x:y: 0 of ")


@pytest.mark.parametrize("scheme", ["", "ours:"])
def test_a_tokenizer_that_is_not_there_is_found_beside_the_weights(scheme, tmp_path):
    there = tmp_path / "release"
    there.mkdir()
    source = PretrainedConfig(source=f"{scheme}{there}")
    data = language_model(tmp_path, data={"tokenizer": "runs/gone/tokenizer.json"}).data
    with pytest.raises(UserError, match="To train one: "):
        check_tokenizer(data, source)
    train(["some text"] * 3, vocab_size=262, lowercase=False).save(str(there / "tokenizer.json"))
    with pytest.raises(UserError) as error:
        check_tokenizer(data, source)
    option, _, value = str(error.value).rpartition(" ")[2].partition("=")
    assert option == "--config.data.tokenizer" and value == str(there)
    check_tokenizer(dataclasses.replace(data, tokenizer=value), source)
    check_tokenizer(data, PretrainedConfig())  # the task tells of it
    check_tokenizer(None, source)


def test_a_tokenizer_that_cannot_be_read_is_told_of_as_it_is(tmp_path):
    for name in ("tokenizer.json", "broken.json"):
        (tmp_path / name).write_text("{}")
    data = language_model(tmp_path, data={"tokenizer": str(tmp_path / "broken.json")}).data
    with pytest.raises(UserError, match="cannot be read from"):
        check_tokenizer(data, PretrainedConfig(source=str(tmp_path)))
