"""Weights from format to format: chains end where they began, no function changes unseen."""

import dataclasses
import json

import numpy as np
import pytest

from interop import (
    FORMATS,
    convert,
    export_pretrained,
    export_weights,
    import_weights,
    load_pretrained,
    save,
)
from interop.example import example_inputs
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import release
from tests.interop.conftest import (
    A_NAME,
    CARD,
    MUSIC,
    causal_model,
    classifier,
    deepmind_causal_model,
    flow_model,
    language_model,
    pooled,
    text_classifier,
)

PLACES = {
    "ours": ["folder"],
    "deepmind": ["x.pystate", "x.pickle", "x.npz"],
    "huggingface": ["folder"],
    "krasserm": ["folder", "x.ckpt", "x.pt"],
    "lucidrains": ["x.pt", "x.safetensors"],
}
"""What each format may be written to."""
FULL = {"image_shape": (224, 224, 3), "max_resolution": None}
"""Images as large as the published models take them; the rest is tiny."""
KRASSERM = {"max_resolution": None}
"""Frequencies up to those of the image."""
CHAINS = {
    "tanh": (classifier(), ["deepmind", "huggingface", "ours"]),
    "exact": (
        classifier("gelu", masked_rows="uniform", **FULL),
        ["krasserm", "huggingface", "ours"],
    ),
    "learned": (
        classifier(
            preprocessing="conv1x1",
            num_frequency_bands=32,
            **FULL,
            num_preprocessing_channels=256,
            num_position_channels=256,
        ),
        ["deepmind", "huggingface"],
    ),
    "stem, padded as in TensorFlow": (
        classifier(
            preprocessing="conv", num_preprocessing_channels=64, max_resolution=(56.0, 56.0)
        ),
        ["deepmind", "ours"],
    ),
    "stem, padded as in PyTorch": (
        classifier(
            preprocessing="conv",
            num_preprocessing_channels=64,
            conv_padding="symmetric",
            max_resolution=(56.0, 56.0),
        ),
        ["huggingface", "ours"],
    ),
    "pooled": (pooled(), ["lucidrains", "ours"]),
    "bytes, tanh": (language_model(), ["deepmind", "huggingface", "ours"]),
    "bytes, exact": (language_model("gelu"), ["krasserm", "huggingface", "ours"]),
    "classes of texts": (text_classifier(), ["krasserm", "huggingface", "ours"]),
    "bytes, causal": (causal_model(), ["krasserm", "ours"]),
    "music": (causal_model(**MUSIC), ["krasserm", "ours"]),
    "bytes with markers, causal": (deepmind_causal_model(), ["deepmind", "ours"]),
    "flow, tanh": (flow_model(), ["deepmind", "huggingface", "ours"]),
    "flow, exact": (flow_model("gelu"), ["krasserm", "huggingface", "ours"]),
    "twelve layers": (
        language_model(num_self_attention_layers_per_block=12, num_self_attention_blocks=1),
        ["deepmind", "huggingface"],
    ),
}


def test_places_are_those_of_all_formats():
    assert PLACES.keys() == FORMATS.keys()


def assert_same(got, want):
    assert got.keys() == want.keys()
    for path in want:
        assert got[path].dtype == want[path].dtype, path
        np.testing.assert_array_equal(got[path], want[path], err_msg=path)


@pytest.mark.parametrize("name", CHAINS)
def test_any_chain_of_formats_ends_where_it_began(name, released, outputs, tmp_path):
    config, formats = CHAINS[name]
    start = released(config)
    places = [(f, place) for f in formats for place in PLACES[f]]
    places += [] if name in ("learned", "twelve layers") else places  # which are large
    export_weights(start, "ours", tmp_path / "start")
    here = ("ours", tmp_path / "start")
    for i, (format_, place) in enumerate(places):
        there = (format_, tmp_path / f"{i}-{format_}" / place)
        exported = convert(*here, *there)
        assert not exported.changes
        here = there
    end = import_weights(*here)
    assert_same(end.arrays, start.arrays)
    inputs = next(iter(example_inputs(config, seed=0).values()))
    # The order of computation is the same, so the result is.
    np.testing.assert_array_equal(outputs(end, inputs), outputs(start, inputs))


@pytest.mark.parametrize("format_", ["huggingface", "krasserm"])
def test_labels_and_preprocessing_travel_where_there_is_a_place_for_them(
    format_, released, tmp_path
):
    start = released(classifier("gelu", **FULL))
    export_weights(start, format_, tmp_path / "x")
    card = import_weights(format_, tmp_path / "x").card
    assert card.labels == CARD.labels
    assert card.preprocessing == CARD.preprocessing


def test_origin_is_recorded(released, tmp_path):
    export_weights(released(classifier()), "deepmind", tmp_path / "x.pystate")
    assert import_weights("deepmind", tmp_path / "x.pystate").card.origin == "deepmind: x.pystate"
    export_weights(released(classifier()), "ours", tmp_path / "x")
    card = import_weights("ours", tmp_path / "x").card
    assert (card.origin, card.licence) == (CARD.origin, CARD.licence)


REFUSED = {
    "gelu": ("krasserm", classifier(**KRASSERM), ["encoder.activation", "decoder.activation"]),
    "exact gelu": ("deepmind", classifier("gelu"), ["encoder.activation", "decoder.activation"]),
    "learned, decoder residual": (
        "huggingface",
        dataclasses.replace(
            CHAINS["learned"][0],
            decoder=dataclasses.replace(
                CHAINS["learned"][0].decoder, cross_attention_residual=False
            ),
        ),
        ["decoder.cross_attention_residual"],
    ),
    "padding of the stem": (
        "huggingface",
        CHAINS["stem, padded as in TensorFlow"][0],
        ["encoder.conv_padding"],
    ),
    "channel order": (
        "krasserm",
        classifier("gelu", position_channel_order="lucidrains", **KRASSERM),
        ["encoder.position_channel_order"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_that_would_change_is_refused_and_listed(name, released, tmp_path):
    format_, config, settings = REFUSED[name]
    with pytest.raises(UserError, match="cannot express this model") as refused:
        export_weights(released(config), format_, tmp_path / A_NAME[format_])
    for setting in settings:
        assert setting in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", REFUSED)
def test_the_nearest_model_is_written_on_request_with_its_effect(name, released, outputs, tmp_path):
    format_, config, settings = REFUSED[name]
    start = released(config)
    place = tmp_path / PLACES[format_][0]
    exported = export_weights(start, format_, place, approximate=True)
    listed = {change.split(":")[0] for change in exported.changes}
    assert set(settings) <= listed
    there = import_weights(format_, place)
    assert_same(there.arrays, start.arrays)
    images = np.random.default_rng(0).standard_normal((2, *config.encoder.image_shape))
    images = images.astype(np.float32)
    before, after = outputs(start, images), outputs(there, images)
    assert exported.effect is not None and exported.effect.difference > 0
    np.testing.assert_allclose(exported.effect.difference, np.abs(after - before).max(), rtol=0.02)
    np.testing.assert_allclose(exported.effect.scale, np.abs(before).max(), rtol=1e-5)


def test_other_parameters_cannot_be_approximated(released, tmp_path):
    patches = classifier("gelu", preprocessing="patches", patch_size=4, **KRASSERM)
    with pytest.raises(UserError, match=r"(?s)has no model with these .*--approximate .* not help"):
        export_weights(released(patches), "krasserm", tmp_path / "x", approximate=True)


def test_what_is_not_seen_in_outputs_is_remarked(released, tmp_path):
    exported = export_weights(
        released(classifier("gelu", residual_dropout=0.1, **KRASSERM)), "krasserm", tmp_path / "x"
    )
    said = "\n".join(exported.remarks)
    assert "encoder.masked_rows: 'zero' → 'uniform'" in said
    assert "encoder.residual_dropout: 0.1 → 0.0" in said


def test_what_a_format_has_no_place_for_is_remarked(released, tmp_path):
    start = released(classifier(**KRASSERM))
    said = export_weights(start, "deepmind", tmp_path / "x.npz").remarks
    assert "names of the classes have no place in this format" in said
    assert "preprocessing.resampling: 'pillow' → 'opencv'" in said
    card = dataclasses.replace(
        CARD, preprocessing=dataclasses.replace(CARD.preprocessing, resampling="opencv", crop=0.9)
    )
    start = dataclasses.replace(released(classifier()), card=card)
    said = export_weights(start, "huggingface", tmp_path / "x").remarks
    assert "preprocessing.resampling: 'opencv' → 'pillow'" in said
    assert not any("crop" in remark or "origin" in remark for remark in said)
    assert not export_weights(start, "ours", tmp_path / "y").remarks


def test_what_was_written_is_read_again(released, tmp_path, monkeypatch):
    """A disk that loses something is noticed before the original is thrown away."""
    monkeypatch.setattr(
        FORMATS["ours"], "write", lambda path, foreign: good(path, replaced_first(foreign))
    )
    with pytest.raises(UserError, match="does not hold what was written"):
        export_weights(released(classifier()), "ours", tmp_path / "x")


good = FORMATS["ours"].write


def replaced_first(foreign):
    arrays = dict(foreign.arrays)
    first = next(iter(arrays))
    return dataclasses.replace(foreign, arrays=arrays | {first: arrays[first] + 1})


def test_a_model_goes_out_and_comes_in(released, outputs, tmp_path):
    model = released(classifier()).model()
    export_pretrained(model, "deepmind", tmp_path / "x.npz")
    again = load_pretrained("deepmind", tmp_path / "x.npz")
    assert_same(release(again).arrays, release(model).arrays)
    images = np.zeros((1, 16, 16, 3), np.float32)
    assert again.encode(images).shape == (1, 4, 8)


def test_models_at_another_resolution(released, tmp_path):
    export_weights(released(classifier()), "deepmind", tmp_path / "x.npz")
    model = load_pretrained("deepmind", tmp_path / "x.npz", image_size=(32, 48))
    assert model(np.zeros((1, 32, 48, 3), np.float32)).shape == (1, 3)
    export_weights(released(CHAINS["learned"][0]), "deepmind", tmp_path / "y.npz")
    with pytest.raises(UserError, match="interpolate_positions=True"):
        load_pretrained("deepmind", tmp_path / "y.npz", image_size=(32, 48))
    model = load_pretrained(
        "deepmind", tmp_path / "y.npz", image_size=(32, 48), interpolate_positions=True
    )
    assert model(np.zeros((1, 32, 48, 3), np.float32)).shape == (1, 3)


def test_a_file_that_does_not_tell_its_model_needs_a_config(released, tmp_path):
    start = released(classifier())
    export_weights(start, "deepmind", tmp_path / "x.pystate")
    (tmp_path / "x.json").unlink()
    with pytest.raises(UserError, match="does not tell what model it holds; put its settings"):
        import_weights("deepmind", tmp_path / "x.pystate")
    found = import_weights("deepmind", tmp_path / "x.pystate", config=start.config)
    assert_same(found.arrays, start.arrays)


def test_an_unknown_format_is_named_with_the_nearest():
    with pytest.raises(UserError, match="no format 'krassern', did you mean 'krasserm'"):
        import_weights("krassern", "x")
    with pytest.raises(UserError, match="no such file or folder: nowhere"):
        import_weights("krasserm", "nowhere")


def test_a_lightning_checkpoint_has_its_wrapper_and_hyperparameters(released, tmp_path):
    import torch

    export_weights(released(classifier("gelu", **KRASSERM)), "krasserm", tmp_path / "x.ckpt")
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert all(name.startswith("model.") for name in content["state_dict"])
    assert content["hyper_parameters"]["num_latents"] == 4
    content["state_dict"]["model.extra"] = torch.zeros(2)
    torch.save(content, tmp_path / "y.ckpt")
    with pytest.raises(UserError, match="unexpected *extra"):
        import_weights("krasserm", tmp_path / "y.ckpt")


def test_a_config_of_another_kind_is_refused(released, tmp_path):
    export_weights(released(classifier("gelu", **KRASSERM)), "krasserm", tmp_path / "x")
    path = tmp_path / "x" / "config.json"
    tree = json.loads(path.read_text())
    tree["model_config"]["encoder"]["num_rotary_layers"] = 3
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match="num_rotary_layers"):
        import_weights("krasserm", tmp_path / "x")


def test_half_precision_is_widened_and_nothing_else_is_cast(released, tmp_path):
    start = released(classifier())
    halves = {path: array.astype(np.float16) for path, array in start.arrays.items()}
    export_weights(dataclasses.replace(start, arrays=halves), "deepmind", tmp_path / "half.npz")
    found = import_weights("deepmind", tmp_path / "half.npz")
    assert_same(found.arrays, {p: array.astype(np.float32) for p, array in halves.items()})
    doubles = {path: array.astype(np.float64) for path, array in start.arrays.items()}
    np.savez(tmp_path / "double.npz", **save(FORMATS["deepmind"].rows(start.config), doubles))
    with pytest.raises(UserError, match="float64, wanted float32") as refused:
        import_weights("deepmind", tmp_path / "double.npz", config=start.config)
    lines = str(refused.value).splitlines()
    assert len(lines) < 30 and "convert the arrays" in lines[-1] and "72 dtype in all" in lines[-2]


def test_arrays_that_are_not_finite_are_not_written(released, tmp_path):
    start = released(classifier())
    latents = start.arrays["encoder/latents"] * np.nan
    broken = dataclasses.replace(start, arrays={**start.arrays, "encoder/latents": latents})
    with pytest.raises(UserError, match="not finite, encoder/latents"):
        export_weights(broken, "deepmind", tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())


MALFORMED = {
    "krasserm": [
        {"encoder": None, "decoder": {}, "num_latents": 4, "num_latent_channels": 8},
        {"encoder": 5, "decoder": {}, "num_latents": 4, "num_latent_channels": 8},
        {"encoder": {"image_shape": []}, "decoder": {}, "num_latents": 4, "num_latent_channels": 8},
        {"encoder": {}, "decoder": {}, "num_latents": "x", "num_latent_channels": 8},
        {
            "encoder": {"image_shape": [200000, 200000, 1]},
            "decoder": {},
            "num_latents": 4,
            "num_latent_channels": 8,
        },
        {
            "encoder": {"num_self_attention_blocks": 10**8},
            "decoder": {},
            "num_latents": 4,
            "num_latent_channels": 8,
        },
        {
            "encoder": {"num_self_attention_layers_per_block": 20000},
            "decoder": {},
            "num_latents": 4,
            "num_latent_channels": 8,
        },
        {"num_self_attention_layers": 20000},
        {"num_heads": 0},
        {"num_channels": "x"},
        {"max_latents": [3]},
        {"vocab_size": 10**12, "num_channels": 8 * 10**6},
    ],
    "deepmind": [
        {"image_size": 5},
        {"image_size": [8, 8], "num_classes": 3, "input_preprocessor": {}, "encoder": 5},
        {"image_size": [8]},
    ],
    "lucidrains": [
        {"class": "Perceiver", "depth": 0, "num_freq_bands": 2, "max_freq": 10},
        {"class": "PerceiverIO", "depth": 2, "dim": 3, "queries_dim": "x"},
        {"class": "PerceiverIO", "depth": 2, "dim": 3, "queries_dim": 3, "latent_heads": 0},
    ],
}


@pytest.mark.parametrize("format_", MALFORMED)
def test_malformed_settings_end_in_a_sentence_at_once(format_, released, tmp_path):
    config = {"krasserm": classifier("gelu", **KRASSERM), "deepmind": classifier()}
    place = tmp_path / {"krasserm": "x.pt", "deepmind": "x.npz", "lucidrains": "x.pt"}[format_]
    export_weights(released(config.get(format_, pooled())), format_, place)
    for settings in MALFORMED[format_]:
        place.with_suffix(".json").write_text(json.dumps(settings))
        with pytest.raises(UserError):
            import_weights(format_, place)


def test_a_prefix_that_all_names_share_is_named(released, tmp_path):
    import torch

    export_weights(released(classifier("gelu", **KRASSERM)), "krasserm", tmp_path / "x.pt")
    state = torch.load(tmp_path / "x.pt", weights_only=True)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="names in the file start with 'module.'"):
        import_weights("krasserm", tmp_path / "x.pt")
