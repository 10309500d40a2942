"""Our own format of released weights: what is written comes back, and nothing else is accepted."""

import dataclasses
import json
import os

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from perceiver_jax import models, params
from perceiver_jax.card import ImagePreprocessing, ModelCard, TextPreprocessing
from perceiver_jax.errors import UserError
from perceiver_jax.models import release

STEM = "encoder/input_adapter/stem/layer/0/conv/kernel"
CARD = {
    "labels": ("cat", "dog", "cow", "hen", "pig"),
    "preprocessing": ImagePreprocessing(image_shape=(8, 8, 1), mean=(0.5,), std=(0.5,)),
    "origin": "somewhere",
    "licence": "CC BY 4.0",
}


@pytest.fixture(scope="module")
def model(tiny_config, random_model):
    """With batch norms, so that there are statistics and a counter too."""
    config = tiny_config(preprocessing="conv", num_preprocessing_channels=4)
    return random_model(lambda: models.build(config, jnp.zeros(2, jnp.uint32)))


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "release", **CARD)
    return tmp_path / "release"


def test_a_release_comes_back_bit_for_bit(model, folder, call):
    again = release.read(folder)
    assert again.config == model.config
    assert again.card == ModelCard(**CARD)
    parameters, statistics = params.flatten(model)
    assert statistics
    want = {**parameters, **statistics}
    assert again.arrays.keys() == want.keys()
    for path, array in want.items():
        assert again.arrays[path].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays[path], array, err_msg=path)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(call(again.model(), images), call(model, images))


def test_a_model_remembers_its_card(folder, tmp_path):
    model = release.read(folder).model()
    assert model.card == ModelCard(**CARD)
    model.save_pretrained(tmp_path / "again", origin="elsewhere")
    card = release.read(tmp_path / "again").card
    assert card == ModelCard(**CARD | {"origin": "elsewhere"})


def test_the_card_tells_what_it_is_where_it_comes_from_and_its_licence(model, folder):
    text = (folder / "README.md").read_text()
    count = params.count(params.flatten(model)[0])
    for words in (
        "ImageClassifier",
        f"{count:,} parameters",
        "somewhere",
        "CC BY 4.0",
        "5 classes",
    ):
        assert words in text
    assert "license: cc-by-4.0" in text.split("---")[1]
    release.Release(config=model.config, arrays={}).save(folder)
    text = (folder / "README.md").read_text()
    assert "not recorded" in text and "license: other" in text.split("---")[1]


@pytest.mark.parametrize(
    ("licence", "known"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc-by-4.0", "cc-by-4.0"),
        ("Apache-2.0", "apache-2.0"),
        ("MIT", "mit"),
        ("my own", "other"),
    ],
)
def test_hubs_are_told_a_licence_that_they_know(model, tmp_path, licence, known):
    model.save_pretrained(tmp_path / "x", licence=licence)
    text = (tmp_path / "x" / "README.md").read_text()
    assert f"license: {known}\n" in text and f"**Their licence:** {licence}\n" in text


def test_nothing_but_the_three_files_is_left(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_write_that_fails_leaves_the_earlier_release(folder, model):
    before = contents(folder)
    unwritable = dataclasses.replace(release.release(model), files={"tokenizer.json": None})
    with pytest.raises(TypeError):
        unwritable.save(folder)
    assert contents(folder) == before


def test_an_earlier_release_is_replaced_whole_and_nothing_else(folder, model):
    text = TextPreprocessing(tokenizer="tokenizer.json")
    files = {"tokenizer.json": b"{}", "special_tokens_map.json": b"{}"}
    dataclasses.replace(release.release(model, text=text), files=files).save(folder)
    assert contents(folder).keys() > files.keys()
    (folder / ".git").mkdir()
    (folder / "notes.txt").write_text("mine")
    release.release(model, **CARD | {"text": None}).save(folder)
    names = {"model.safetensors", "config.json", "README.md", "notes.txt", ".git"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "notes.txt").read_text() == "mine"
    assert release.read(folder).card == ModelCard(**CARD)


def test_a_release_that_was_interrupted_is_replaced(folder, model):
    (folder / "config.json").unlink()
    (folder / "README.md").write_text("of an older one")
    model.save_pretrained(folder, **CARD)
    assert release.read(folder).card == ModelCard(**CARD)


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "config.json", "model.safetensors"])
def test_a_folder_with_other_things_is_left_alone(model, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"has {name} in it and is no release.*name a new folder"):
        model.save_pretrained(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_release_from_before_digests_were_recorded_is_replaced(folder, model):
    description = json.loads((folder / "config.json").read_text())
    del description["files"]
    (folder / "config.json").write_text(json.dumps(description))
    (folder / "README.md").write_text("as another version wrote it")
    model.save_pretrained(folder, origin="new")
    assert "new" in (folder / "README.md").read_text()


@pytest.mark.parametrize("config", ["{", '{"files": 3}', '{"format_version": 99}'])
def test_a_release_with_a_damaged_config_is_replaced(folder, model, config):
    (folder / "config.json").write_text(config)
    model.save_pretrained(folder, origin="new")
    assert release.read(folder).card.origin == "new"


def test_the_same_release_is_the_same_bytes(folder, model, tmp_path):
    model.save_pretrained(tmp_path / "again", **CARD)
    assert contents(tmp_path / "again") == contents(folder)


def test_weights_of_another_library_are_left_alone(model, tmp_path):
    save_file({"x": np.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"model\.safetensors in it and is no release"):
        model.save_pretrained(tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_with_hidden_files_alone_is_taken(model, tmp_path):
    (tmp_path / ".gitattributes").write_text("mine")
    model.save_pretrained(tmp_path)
    assert release.read(tmp_path).config == model.config
    assert (tmp_path / ".gitattributes").read_text() == "mine"


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json"])
def test_what_was_written_into_a_release_by_hand_is_not_lost(folder, model, name):
    (folder / name).write_text("mine")
    before = contents(folder)
    new = dataclasses.replace(release.release(model), files={"tokenizer.json": b"{}"})
    with pytest.raises(UserError, match=rf"{name} in .* would be lost.*another folder"):
        new.save(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("moved", range(3))
def test_a_move_that_fails_leaves_no_config_of_another_model(folder, model, monkeypatch, moved):
    weights = (folder / "model.safetensors").read_bytes()
    moves = []

    def replace(source, destination, move=os.replace):
        if len(moves) == moved:
            raise OSError("gone")
        moves.append(destination.name)
        move(source, destination)

    monkeypatch.setattr(release.os, "replace", replace)
    with pytest.raises(OSError, match="gone"):
        model.save_pretrained(folder, origin="new")
    assert moves == ["model.safetensors", "README.md"][:moved]
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "README.md"}
    # The same model: its weights are whole, old or new.
    assert (folder / "model.safetensors").read_bytes() == weights


def test_labels_of_another_number_are_refused(model, tmp_path):
    words = r"3 labels for a model of 5 classes"
    with pytest.raises(UserError, match=words):
        model.save_pretrained(tmp_path / "x", labels=("a", "b", "c"))
    assert not (tmp_path / "x").exists()
    card = ModelCard(labels=("a", "b", "c"))
    with pytest.raises(UserError, match=words):
        release.Release(config=model.config, arrays={}, card=card)


def damage_missing(folder):
    (folder / "config.json").unlink()


def damage_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def damage_json(folder):
    (folder / "config.json").write_text("{")


def damage_no_description(folder):
    (folder / "config.json").write_text('{"model": {}}')


def damage_version(folder):
    edit(folder, lambda tree: tree.update(format_version=99))


def damage_field(folder):
    edit(folder, lambda tree: tree["model"].update(num_latent=3))


def damage_model(folder):
    edit(folder, lambda tree: tree.update(model=5))


def damage_card(folder):
    edit(folder, lambda tree: tree.update(card=None))


def damage_kind(folder):
    edit(folder, lambda tree: tree["model"]["encoder"].update(kind=[]))


def damage_nesting(folder):
    (folder / "config.json").write_text("[" * 100_000 + "]" * 100_000)


def damage_labels(folder):
    edit(folder, lambda tree: tree["card"].update(labels=["a"]))


def damage_numbers(folder):
    path = folder / "model.safetensors"
    arrays = load_file(path)
    for name, value in (("encoder/latents", np.nan), (STEM, np.inf)):
        arrays[name] = arrays[name].astype(ml_dtypes.bfloat16)
        arrays[name].flat[0] = value
    save_file(arrays, path)


def edit(folder, change):
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (damage_missing, "has no config.json"),
        (damage_weights, "not a whole safetensors file"),
        (damage_json, "does not describe a release"),
        (damage_no_description, "does not describe a release"),
        (damage_version, "format_version 99, this library reads 2"),
        (damage_model, "does not describe a release"),
        (damage_card, "config.json: card is a NoneType; it takes a ModelCard"),
        (damage_kind, "does not describe a release"),
        (damage_nesting, "does not describe a release"),
        (damage_labels, "1 labels for a model of 5 classes"),
        (damage_numbers, f"{STEM}, encoder/latents hold NaN or infinite values"),
        (damage_field, "no field 'num_latent'; did you mean 'num_latents'"),
    ],
)
def test_a_damaged_folder_is_refused(folder, damage, complaint):
    damage(folder)
    with pytest.raises(UserError, match=complaint):
        release.read(folder)


def test_other_arrays_are_refused_by_name(folder):
    found = release.read(folder)
    wrong = dict(found.arrays)
    wrong["encoder/latent"] = wrong.pop("encoder/latents")
    with pytest.raises(ValueError, match="unknown encoder/latent"):
        dataclasses.replace(found, arrays=wrong).model()


def test_a_file_is_no_place_for_a_release(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        model.save_pretrained(tmp_path / "file")


def test_a_misspelt_field_of_the_card_is_named(model, tmp_path):
    with pytest.raises(TypeError, match="no field 'license'; did you mean 'licence'"):
        model.save_pretrained(tmp_path / "x", license="MIT")
    assert not (tmp_path / "x").exists()


def test_a_folder_is_not_called_like_a_file(model, tmp_path):
    with pytest.raises(UserError, match=r"named like a file, .*; name one, such as .*mine$"):
        model.save_pretrained(tmp_path / "mine.safetensors")
    (tmp_path / "v1.5").mkdir()
    model.save_pretrained(tmp_path / "v1.5" / "of.today")
