"""Language models from format to format: what travels with them, and what is said of padding."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from interop import convert, export_weights, import_weights, load_pretrained
from interop.example import example_inputs
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.config import to_dict
from perceiver_jax.data.text.tokenizers import tokenizer_from_files
from perceiver_jax.errors import UserError
from tests.interop.conftest import A_NAME, TEXT_CARD, language_model, text_classifier


def assert_same(got, want):
    assert got.keys() == want.keys()
    for path in want:
        np.testing.assert_array_equal(got[path], want[path], err_msg=path)


def padded_texts(config):
    """Ids, and a mask of which the end of the last text is left out."""
    inputs = example_inputs(config, seed=0)
    mask = inputs["input_mask"]
    assert mask[0].all() and mask[-1].any() and not mask[-1].all()
    return inputs["inputs"], mask


def test_deepminds_pickle_becomes_any_format_and_ends_where_it_began(released, outputs, tmp_path):
    """Through implementations with the other form of GELU, which is asked for and measured."""
    start = released(language_model())
    places = {
        "deepmind": tmp_path / "x.pickle",
        "huggingface": tmp_path / "huggingface",
        "krasserm": tmp_path / "krasserm",
    }
    route = ["deepmind", "huggingface", "krasserm", "huggingface", "deepmind"]
    export_weights(start, "deepmind", places["deepmind"])
    effects = []
    for source, destination in zip(route, route[1:], strict=False):
        done = convert(source, places[source], destination, places[destination], approximate=True)
        effects.append(done.effect)
    assert [effect is None for effect in effects] == [True, False, True, False]
    end = import_weights("deepmind", places["deepmind"])
    assert_same(end.arrays, start.arrays)
    ids, mask = padded_texts(start.config)
    np.testing.assert_array_equal(outputs(end, ids, mask), outputs(start, ids, mask))


@pytest.mark.parametrize("format_", ["huggingface", "krasserm"])
def test_predictions_for_padding_are_the_only_ones_that_differ(
    format_, released, outputs, tmp_path
):
    config = language_model("gelu")
    start = released(config)
    exported = export_weights(start, format_, tmp_path / "x")
    assert not exported.changes
    said = "\n".join(exported.remarks)
    assert "decoder.mask_queries: True → False (what is predicted for padding" in said
    there = import_weights(format_, tmp_path / "x")
    ids, mask = padded_texts(config)
    before, after = outputs(start, ids, mask), outputs(there, ids, mask)
    # The same function in another order of computation.
    np.testing.assert_allclose(after[mask], before[mask], atol=1e-3)
    assert np.abs(before[~mask] - after[~mask]).max() > 0.1


def test_deepmind_masks_the_queries(released, tmp_path):
    start = released(language_model(decoder={"mask_queries": False}))
    said = "\n".join(export_weights(start, "deepmind", tmp_path / "x.pickle").remarks)
    assert "decoder.mask_queries: False → True" in said
    assert load_pretrained("deepmind", tmp_path / "x.pickle").config == language_model(
        init_method="variance_scaling",
        latent_init_scale=0.02,
        decoder={"init_method": "variance_scaling"},
    )


def test_deepminds_pickle_holds_modules_alone(released, tmp_path):
    """As it was released: what its notebook loads are the parameters."""
    export_weights(released(language_model()), "deepmind", tmp_path / "x.pickle")
    content = pickle.loads((tmp_path / "x.pickle").read_bytes())
    assert {"embed", "embedding_decoder", "perceiver_encoder/~/cross_attention/mlp/linear"} <= (
        content.keys()
    )


@pytest.mark.parametrize("format_", ["huggingface", "krasserm"])
@pytest.mark.parametrize("config", [language_model("gelu"), text_classifier()])
def test_what_is_known_of_a_model_travels(format_, config, released, tmp_path):
    labels = ("bad", "so so", "good") if config == text_classifier() else ()
    start = released(config)
    start = dataclasses.replace(start, card=dataclasses.replace(start.card, labels=labels))
    exported = export_weights(start, format_, tmp_path / "x")
    assert not any("place" in remark or "text" in remark for remark in exported.remarks)
    assert import_weights(format_, tmp_path / "x").card == start.card


def test_texts_that_stand_alone_are_remarked(released, tmp_path):
    alone = ModelCard(text=TextPreprocessing(tokenizer="bytes", add_special_tokens=False))
    start = dataclasses.replace(released(language_model()), card=alone)
    assert not export_weights(start, "deepmind", tmp_path / "x.pickle").remarks
    assert import_weights("deepmind", tmp_path / "x.pickle").card.text == alone.text
    exact = dataclasses.replace(start, config=language_model("gelu"))
    said = export_weights(exact, "krasserm", tmp_path / "x.pt").remarks
    assert "text.add_special_tokens: False → True" in said
    between = dataclasses.replace(start, card=TEXT_CARD)
    said = export_weights(between, "deepmind", tmp_path / "y.npz").remarks
    assert "text.add_special_tokens: True → False" in said


@pytest.mark.parametrize("format_", ["huggingface", "krasserm"])
@pytest.mark.parametrize("tokenizer", ["bytes", "tokenizer.json"])
@pytest.mark.parametrize("between", [True, False])
def test_folders_keep_whether_texts_stand_alone(format_, tokenizer, between, released, tmp_path):
    text = TextPreprocessing(tokenizer=tokenizer, add_special_tokens=between)
    files = {} if tokenizer == "bytes" else {tokenizer: TOKENIZER}
    start = released(language_model("gelu"))
    start = dataclasses.replace(start, card=ModelCard(text=text), files=files)
    said = "\n".join(export_weights(start, format_, tmp_path / "x").remarks)
    assert import_weights(format_, tmp_path / "x").card.text == text
    assert "text.add_special_tokens:" not in said
    # Their own tokenizers have no such setting.
    assert ("tokenizer(text, add_special_tokens=False)" in said) is not between


TOKENIZER = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": content, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for i, content in enumerate(["[PAD]", "[UNK]", "[MASK]", "<<M>>"])
        ],
        "model": {
            "type": "WordLevel",
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "<<M>>": 3, "hello": 4},
            "unk_token": "[UNK]",
        },
        "pre_tokenizer": {"type": "Whitespace"},
    }
).encode()
OTHER_MASK = b'{"mask_token": "<<M>>"}'


def with_tokenizer(released, name, content=TOKENIZER, special=OTHER_MASK):
    text = TextPreprocessing(tokenizer=name, add_special_tokens=True)
    files = {name: content, "special_tokens_map.json": special}
    start = released(language_model("gelu"))
    return dataclasses.replace(start, card=ModelCard(text=text), files=files)


@pytest.mark.parametrize("format_", ["huggingface", "krasserm", "ours"])
def test_a_tokenizer_travels(format_, released, tmp_path):
    start = with_tokenizer(released, "tokenizer.json")
    said = export_weights(start, format_, tmp_path / "x").remarks
    assert not any("tokenizer" in remark for remark in said)
    found = import_weights(format_, tmp_path / "x")
    assert (found.card.text, dict(found.files)) == (start.card.text, dict(start.files))
    assert tokenizer_from_files("tokenizer.json", found.files).mask_id == 3


def test_a_tokenizer_of_another_name_travels_under_the_usual_one(released, tmp_path):
    start = with_tokenizer(released, "words.json")
    remarks = export_weights(start, "huggingface", tmp_path / "x").remarks
    assert not any("tokenizer" in remark for remark in remarks)
    assert dict(import_weights("huggingface", tmp_path / "x").files) == {
        "tokenizer.json": TOKENIZER,
        "special_tokens_map.json": OTHER_MASK,
    }


def test_files_of_a_tokenizer_that_are_left_behind_are_remarked(released, tmp_path):
    start = with_tokenizer(released, "tokenizer.json")
    start = dataclasses.replace(start, files={**start.files, "merges.txt": b"a b"})
    said = export_weights(start, "huggingface", tmp_path / "x").remarks
    assert "merges.txt of the tokenizer has no place in this format" in said


def test_tokenizers_without_a_place_are_remarked(released, tmp_path):
    pieces = with_tokenizer(released, "pieces.model", b"\x00")
    for format_, place in (("huggingface", "x"), ("krasserm", "y.pt")):
        remarks = export_weights(pieces, format_, tmp_path / place).remarks
        assert "the tokenizer has no place in this format: pieces.model" in remarks
    damaged = with_tokenizer(released, "tokenizer.json", b"{")
    with pytest.raises(UserError, match="tokenizer is no tokenizer.json"):
        export_weights(damaged, "huggingface", tmp_path / "z")
    damaged = with_tokenizer(released, "tokenizer.json", special=b"[]")
    with pytest.raises(UserError, match="special_tokens_map.json holds a JSON list"):
        export_weights(damaged, "huggingface", tmp_path / "z")
    assert not (tmp_path / "z" / "config.json").exists()


REFUSED = {
    "heads": (
        "huggingface",
        language_model("gelu", decoder={"num_cross_attention_heads": 4}),
        "decoder.num_cross_attention_heads: 4 → 8",
    ),
    "residual": (
        "huggingface",
        language_model(decoder={"cross_attention_residual": True}),
        "decoder.cross_attention_residual: True → False",
    ),
    "exact gelu": ("deepmind", language_model("gelu"), "encoder.activation: 'gelu' → 'gelu_tanh'"),
    "residual of classes": (
        "huggingface",
        text_classifier(decoder={"cross_attention_residual": False}),
        "decoder.cross_attention_residual: False → True",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_that_would_change_is_refused_and_written_on_request(
    name, released, outputs, tmp_path
):
    format_, config, change = REFUSED[name]
    start, place = released(config), tmp_path / A_NAME[format_]
    with pytest.raises(UserError, match="cannot express this model") as refused:
        export_weights(start, format_, place)
    assert change in str(refused.value)
    assert not list(tmp_path.iterdir())
    exported = export_weights(start, format_, place, approximate=True)
    assert change in exported.changes
    there = import_weights(format_, place)
    assert_same(there.arrays, start.arrays)
    ids = example_inputs(config, seed=0)["inputs"]
    moved = np.abs(outputs(start, ids) - outputs(there, ids)).max()
    assert moved > 0 and exported.effect is not None and exported.effect.difference > 0


@pytest.mark.parametrize(
    ("format_", "config"),
    [
        ("huggingface", language_model(decoder={"num_output_query_channels": 8})),
        ("deepmind", language_model(decoder={"num_output_query_channels": 8})),
        ("deepmind", language_model(decoder={"output_queries": "inputs"})),
        ("huggingface", language_model(decoder={"max_seq_len": 13})),
    ],
)
def test_other_parameters_cannot_be_approximated(format_, config, released, tmp_path):
    with pytest.raises(UserError, match="has no model with these parameters"):
        export_weights(released(config), format_, tmp_path / A_NAME[format_], approximate=True)


def test_deepmind_has_no_text_classifier(released, tmp_path):
    with pytest.raises(UserError, match="has no TextClassifier; of our models it has Im"):
        export_weights(released(text_classifier()), "deepmind", tmp_path / "x.pickle")


def test_texts_have_no_image_size(released, tmp_path):
    export_weights(released(language_model()), "deepmind", tmp_path / "x.npz")
    with pytest.raises(UserError, match="TextEncoderConfig takes no images, so it has no"):
        load_pretrained("deepmind", tmp_path / "x.npz", image_size=(32, 32))


MALFORMED = {
    "deepmind": [
        {"task": "masked_lm"},
        {"task": ["masked_lm"]},
        {"task": "flow", "encoder": {}},
        {"task": "masked_lm", "d_model": "x", "vocab_size": 2, "max_seq_len": 3},
        {"task": "masked_lm", "d_model": 8, "vocab_size": 2, "max_seq_len": 3, "encoder": 5},
    ],
    "huggingface": [
        {"architectures": ["PerceiverForMaskedLM"], "vocab_size": "many"},
        {"architectures": ["PerceiverForMaskedLM"], "d_model": 0},
        {"architectures": ["PerceiverForMaskedLM"], "max_position_embeddings": [3]},
        {"architectures": ["PerceiverForOpticalFlow"]},
        {"architectures": ["PerceiverForMaskedLM", "PerceiverForSequenceClassification"]},
    ],
}


@pytest.mark.parametrize("format_", MALFORMED)
def test_malformed_settings_end_in_a_sentence(format_, released, tmp_path):
    place = tmp_path / ("x.npz" if format_ == "deepmind" else "x")
    export_weights(released(language_model()), format_, place)
    settings = place.with_suffix(".json") if format_ == "deepmind" else place / "config.json"
    for tree in MALFORMED[format_]:
        settings.write_text(json.dumps(tree))
        with pytest.raises(UserError):
            import_weights(format_, place)


def test_arguments_that_would_change_the_computation_are_refused():
    from interop.formats import deepmind

    meta = deepmind.settings(language_model())
    assert to_dict(deepmind.config(meta))["decoder"]["mask_queries"] is True
    for change, complaint in (
        ({"final_project": True}, "final_project=True"),
        ({"position_encoding_type": "fourier"}, "position_encoding_type='fourier'"),
        ({"output_index_dims": 3}, "output_index_dims=3 instead of 12"),
        ({"concat_preprocessed_input": True}, "concat_preprocessed_input=True"),
        ({"num_blobs": 1}, "num_blobs"),
        ({"trainable_position_encoding_kwargs": {"num_channels": 9}}, "num_channels=9"),
    ):
        with pytest.raises(UserError, match=complaint):
            deepmind.config({**meta, "decoder": meta["decoder"] | change})
