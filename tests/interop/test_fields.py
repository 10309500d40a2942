"""Fields of configs by path and by name."""

from interop.fields import by_name, by_path
from tests.interop.conftest import causal_model, classifier


def test_fields_of_halves_have_paths():
    fields = by_path(classifier("gelu", image_shape=(6, 8, 3)))
    assert fields["encoder.image_shape"] == [6, 8, 3]
    assert fields["decoder.num_classes"] == 3 and fields["num_latents"] == 4
    assert not any(isinstance(value, dict) for value in fields.values())


def test_fields_of_what_has_no_halves_are_their_own_paths():
    config = causal_model()
    assert by_path(config) == by_name(config)
    assert by_path(config)["max_latents"] == 7


def test_of_one_name_in_both_halves_the_later_counts():
    fields = by_name(classifier("gelu_tanh", decoder={"activation": "gelu"}))
    assert fields["activation"] == "gelu"
    assert fields["num_self_attention_layers_per_block"] == 2
