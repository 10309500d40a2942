"""Models in words."""

import pytest

from configs import clm_small, digits, mlm_small
from perceiver_jax import models
from perceiver_jax.config import from_dict
from perceiver_jax.pipelines.model_kinds import KINDS, kind_of
from perceiver_jax.train.config import ExperimentConfig


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (digits, "a classifier of images (ImageEncoderConfig)"),
        (mlm_small, "a masked language model (TextEncoderConfig)"),
        (clm_small, "a causal model (CausalSequenceConfig)"),
    ],
)
def test_a_model_is_what_its_config_makes(file, kind):
    config = from_dict(ExperimentConfig, file.get_config("smoke"))
    assert kind_of(config.model) == kind


def test_every_model_has_a_kind():
    assert set(KINDS) == {*models.MODELS.values(), models.CausalSequenceModel, models.Resampler}
