import pytest

from perceiver_jax import models
from perceiver_jax.card import ModelCard
from perceiver_jax.models.model_card import MOST_NAMES, model_card_text


def test_it_says_how_the_model_is_got_and_what_it_takes(tiny_config):
    text = model_card_text(tiny_config(), ModelCard())
    assert "pip install -c constraints.txt ." in text
    assert 'load_pretrained("ours", "path/to/this/folder")' in text
    assert "| `inputs` | [8, 8, 1] | float32 | images, channels last, normalised |" in text
    assert "apart" not in text


def test_ranges_and_free_sizes_are_told():
    config = models.causal_bytes(max_seq_len=16, max_latents=8, num_channels=16, num_heads=2)
    text = model_card_text(config, ModelCard())
    assert "| `inputs` | [tokens] | int32 |" in text and "; from 0 to 261 |" in text


def test_a_resampler_does_not_tell():
    config = models.ResamplerConfig(num_latents=2, num_latent_channels=16, num_layers=1)
    assert "| argument |" not in model_card_text(config, ModelCard())


@pytest.mark.parametrize("count, ends", [(3, "class 0; class 1; class 2\n"), (99, "class 29; …\n")])
def test_classes_are_named(tiny_config, count, ends):
    labels = tuple(f"class {i}" for i in range(count))
    text = model_card_text(tiny_config(), ModelCard(labels=labels))
    assert f"It tells {count} classes apart: class 0; " in text and ends in text
    assert text.count("class ") <= MOST_NAMES + 1
