"""Classifiers of modalities that the library has never heard of."""

import jax
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.config import ConfigError, choice_from_dict, choice_to_dict
from perceiver_jax.models import AnyModelConfig, Classifier, PooledClassifier
from perceiver_jax.models.release import read
from tests.toy_modality import ToyModality, toy_model


@pytest.fixture
def numbers():
    return np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


@pytest.mark.parametrize(("pooled", "cls"), [(False, Classifier), (True, PooledClassifier)])
def test_a_class_from_elsewhere_makes_a_classifier(numbers, pooled, cls):
    model = models.build(toy_model(pooled=pooled), jax.random.key(0))
    assert type(model) is cls
    assert model({"numbers": numbers}).shape == (2, 2)


@pytest.mark.parametrize("pooled", [False, True])
def test_masked_elements_change_nothing(numbers, pooled):
    model = models.build(toy_model(pooled=pooled), jax.random.key(0))
    mask = np.array([[True, True, True, False, True]] * 2)
    other = numbers.copy()
    other[:, 3] = 9.0
    want = model({"numbers": numbers}, mask)
    np.testing.assert_array_equal(model({"numbers": other}, mask), want)
    assert not np.allclose(model({"numbers": other}), want, atol=1e-3)


def test_its_config_survives_the_way_to_json():
    config = toy_model(num_channels=7)
    tree = choice_to_dict(config)
    assert tree["encoder"]["kind"] == "ToyModality"
    assert choice_from_dict(AnyModelConfig, tree) == config


def test_it_is_released_and_read_again(tmp_path, numbers):
    model = models.build(toy_model(), jax.random.key(0))
    model.save_pretrained(tmp_path)
    released = read(tmp_path)
    assert released.config == toy_model()
    assert isinstance(released.config.encoder, ToyModality)


def test_a_class_that_was_not_imported_is_named_with_the_remedy():
    tree = choice_to_dict(toy_model())
    tree["encoder"]["kind"] = "NobodyImportedMe"
    with pytest.raises(ConfigError, match=r"NobodyImportedMe.*must be imported first"):
        choice_from_dict(AnyModelConfig, tree)


def test_a_classifier_of_another_encoder_is_an_error(tiny_config):
    with pytest.raises(ConfigError, match="Classifier takes a ModalityConfig"):
        Classifier(tiny_config(), rngs=models._Rngs(jax.random.key(0)))
