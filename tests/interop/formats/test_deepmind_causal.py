"""Arguments of DeepMind's Perceiver AR that mean another function are not taken in silence."""

import pytest

from interop.formats import deepmind
from perceiver_jax.errors import UserError
from tests.interop.conftest import TABLE, deepmind_causal_model


def arguments(**changes):
    usual = {"num_classes": 13, "input_idx_size": [-1], "max_context_length": 16}
    usual |= {"position_encoding_type": "rotary", "max_wavelength": 16, "z_index_dim": 6}
    return {**usual, "task": "autoregressive", "use_positions_from_data": True, **changes}


ABSOLUTE = {"position_encoding_type": "absolute"}


@pytest.mark.parametrize(
    "changes, complaint",
    [
        (
            {"cross_attention_head_group_size": 2, "fraction_heads_to_rotate": 0.5},
            "cross_attention_head_group_size=2 instead of 0",
        ),
        ({"z_index_dim": 7, "num_latents_per_position": 2}, "z_index_dim=7 instead of 6"),
        ({"mask_style": "blocks"}, "mask_style='blocks' instead of 'final_block'"),
        ({"activation_name": "silu"}, "activation_name='silu' instead of 'sq_relu'"),
        ({**ABSOLUTE, "position_encoding": "linear"}, "position_encoding='linear'"),
        (
            {**ABSOLUTE, "input_idx_size": [9, 9], "use_positions_from_data": False},
            "use_positions_from_data=False instead of True",
        ),
        ({"initial_query_embed_style": "other"}, "initial_query_embed_style='other'"),
        (
            {"initial_query_embed_style": "mlp", "initial_query_embed_activation_name": "gelu"},
            "initial_query_embed_activation_name='gelu' instead of 'sq_relu'",
        ),
        ({"z_index_dim": 17}, "z_index_dim=17 instead of 16"),
        ({"unknown": 1}, "arguments {'unknown': 1} have no counterpart"),
    ],
)
def test_arguments_that_cannot_be_expressed_are_refused(changes, complaint):
    with pytest.raises(UserError) as error:
        deepmind.config(arguments(**changes))
    assert complaint in str(error.value)
    deepmind.config(arguments())


def test_arguments_without_a_default_have_to_be_there():
    for name in ("num_classes", "max_context_length", "position_encoding_type", "input_idx_size"):
        some = {key: value for key, value in arguments().items() if key != name}
        with pytest.raises(UserError, match=f"lack '{name}', which has no default"):
            deepmind.config(some)


def test_groups_of_heads_save_memory_alone_where_all_heads_turn():
    grouped = deepmind.config(arguments(cross_attention_head_group_size=2))
    assert grouped == deepmind.config(arguments())


@pytest.mark.parametrize(
    "fields, complaint",
    [
        ({"num_latents_per_position": 2}, "num_latents_per_position=2 instead of 1"),
        (
            {**TABLE, "num_latents_per_position": 2, "initial_queries": "learned"},
            "num_latents_per_position=2 instead of 1",
        ),
        ({"rotary_max_wavelength": 11.0}, "rotary_max_wavelength=11.0 instead of 12.0"),
    ],
)
def test_models_on_which_deepminds_code_would_fail_are_refused(fields, complaint):
    with pytest.raises(UserError) as error:
        deepmind.rows(deepmind_causal_model(**fields))
    assert complaint in str(error.value)
