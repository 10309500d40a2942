import dataclasses

import pytest

from perceiver_jax.models.perceiver_config import check_half


@pytest.mark.parametrize("name", ["num_latents", "num_latent_channels"])
def test_there_is_at_least_one_latent_of_one_channel(tiny_config, name):
    with pytest.raises(ValueError, match=f"{name}=0 is too small; it must be 1 or more"):
        dataclasses.replace(tiny_config(), **{name: 0})


def test_a_half_of_another_type_is_refused(tiny_config):
    config = tiny_config()
    wanted = type(config.encoder)
    assert check_half(config.encoder, wanted, "Model") is config.encoder
    message = "Model takes an ImageEncoderConfig, not a ClassificationDecoderConfig"
    with pytest.raises(ValueError, match=message):
        check_half(config.decoder, wanted, "Model")
