"""Our own format of released weights: what is written comes back, and nothing else is accepted."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models, params
from perceiver_jax.card import ImagePreprocessing, ModelCard
from perceiver_jax.errors import UserError
from perceiver_jax.models import release

CARD = {
    "labels": ("cat", "dog"),
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
        "2 classes",
    ):
        assert words in text
    assert "license: cc-by-4.0" in text.split("---")[1]
    release.Release(config=model.config, arrays={}).save(folder)
    assert "not recorded" in (folder / "README.md").read_text()


def test_nothing_but_the_three_files_is_left(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}


def test_a_write_that_fails_leaves_the_earlier_release(folder, model, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(release.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        model.save_pretrained(folder)
    monkeypatch.undo()
    assert (folder / "model.safetensors").read_bytes() == before
    assert len(list(folder.iterdir())) == 3


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
        (damage_version, "format_version 99, this library reads 1"),
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
