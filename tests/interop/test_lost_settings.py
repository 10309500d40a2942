"""An export loses no setting of a model in silence."""

import contextlib
import dataclasses

import pytest

from interop import FORMATS
from interop.expressible import remarks
from interop.formats import lucidrains
from perceiver_jax import models
from perceiver_jax.config import from_dict, to_dict
from tests.interop.conftest import (
    IDEFICS,
    LUCIDRAINS_AR,
    LUCIDRAINS_LM,
    PROJECTION,
    TABLE,
    causal_model,
    classifier,
    deepmind_causal_model,
    flow_model,
    language_model,
    parts,
    pooled,
    resampler,
    schedule,
    text_classifier,
    video_autoencoder,
)

NOT_THE_FUNCTION = {
    "implementation",
    "init_method",
    "init_scale",
    "latent_init_scale",
    "remat",
    "unroll",
    "position_table",
    "zero_logits",
    "output_init_scale",
}
"""Fields that say how a model starts or how it is compiled."""
WITHOUT_EFFECT = {
    ("deepmind, causal model", "num_input_channels", 16),
    ("deepmind, causal model", "num_cross_attention_qk_channels", 16),
    ("deepmind, causal model with a table", "num_input_channels", 16),
    ("deepmind, causal model with a table", "num_cross_attention_qk_channels", 16),
    ("deepmind, causal model with a table", "num_self_attention_rotary_layers", 0),
    ("deepmind, causal model with a table", "num_self_attention_rotary_layers", 1),
}
"""Changes that leave these very models as they are: channels that are so by default, layers
that would turn if anything did."""
OF_TIME = {"rotary_min_period", "rotary_max_period"}
"""Fields that mean nothing where time turns nothing, which another field says."""
SHARING = {"first_cross_attention_layer_shared", "repeated_layers_shared"}
TINY = {
    "krasserm": classifier("gelu", max_resolution=None),
    "deepmind": classifier(),
    "huggingface": classifier(),
    "lucidrains": pooled(),
    "deepmind, language model": language_model(),
    "huggingface, language model": language_model(),
    "huggingface, text classifier": text_classifier(
        decoder={"num_cross_attention_qk_channels": 16, "num_cross_attention_v_channels": 16}
    ),
    "krasserm, language model": language_model("gelu"),
    "krasserm, text classifier": text_classifier(),
    "krasserm, optical flow": flow_model("gelu"),
    "huggingface, optical flow": flow_model(num_self_attention_blocks=2),
    "deepmind, optical flow": flow_model(num_self_attention_blocks=2),
    "huggingface, clips": video_autoencoder(num_self_attention_blocks=2),
    "huggingface, resampler of Idefics2": resampler(),
    "huggingface, connector of Idefics2": resampler(**PROJECTION),
    "huggingface, resampler of IDEFICS": resampler(**IDEFICS),
    "deepmind, clips": video_autoencoder(num_self_attention_blocks=2),
    "krasserm, causal model": causal_model(),
    "lucidrains, causal model": lucidrains.config(LUCIDRAINS_AR),
    "deepmind, causal model": deepmind_causal_model(),
    "deepmind, causal model with a table": deepmind_causal_model(**TABLE),
    "lucidrains, language model": lucidrains.config(
        {**LUCIDRAINS_LM, "num_latents": 4, "decoder_ff": True, "weight_tie_layers": True}
    ),
}
"""Models by format, and kind where it has several."""


def changes(half):
    """(field, the same half with another value there), for every field that can be changed."""
    for field in dataclasses.fields(half):
        value = getattr(half, field.name)
        options = {
            bool: [not value],
            int: [value + 1, value + 2, 2 * value] if isinstance(value, int) else [],
            float: [value + 0.25] if isinstance(value, float) else [],
            str: "gelu gelu_tanh relu swiglu rms_norm zero uniform bfloat16 lucidrains zeros "
            "inputs".split(),
            type(None): [1, 16, 0.25, (9.0, 9.0)],
            tuple: [(0,), (9.0, 9.0), (8, 8, 1), (6, 10, 3), (6, 10)],
        }[type(value)]
        for option in options:
            with contextlib.suppress(ValueError, TypeError):
                changed = dataclasses.replace(half, **{field.name: option})
                if option != value and from_dict(type(half), to_dict(changed)) == changed:
                    yield field.name, changed


def one_head(half, field, value):
    """Whether a number of heads of keys and values is that of the heads, which it is by default."""
    return "kv_heads" in field and getattr(half, field.replace("_kv", "")) == value


@pytest.mark.parametrize("case", TINY)
def test_every_field_is_told_refused_remarked_or_not_of_the_function(case):
    """Whatever is changed in a model, an export does not lose it in silence."""
    name, config = case.partition(",")[0], TINY[case]
    module = FORMATS[name]
    count, lost = 0, []
    for half, before in parts(config).items():
        for field, changed in changes(before):
            model = dataclasses.replace(config, **{half: changed}) if half else changed
            path = f"{half}.{field}" if half else field
            try:
                needed = module.requirements(model)
            except ValueError:
                continue  # no model, or none that the format knows
            count += 1
            refused = any(got != wanted for got, wanted in needed.values())
            if refused or field in NOT_THE_FUNCTION | OF_TIME:
                continue
            again = module.config(module.settings(model))
            told = getattr(parts(again)[half], field, None) == getattr(changed, field)
            said = any(f"{path}:" in remark for remark in remarks(module, model))
            # Flags of sharing may say the same in several ways; lucidrains takes any grid.
            same = field in SHARING and schedule(parts(again)[half]) == schedule(changed)
            same = same or one_head(before, field, getattr(changed, field))
            same = same or (name, field) == ("lucidrains", "image_shape")
            same = same or (case, field, getattr(changed, field)) in WITHOUT_EFFECT
            if not (told or said or same or module.settings(model) != module.settings(config)):
                with contextlib.suppress(ValueError):
                    models.skeleton(model)  # there is such a model
                    lost.append((path, getattr(changed, field)))
    assert not lost
    assert count > 20
