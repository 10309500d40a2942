"""The resampler of Idefics2, alone or with the projection of features before it.

- Alone it is their `Idefics2PerceiverResampler`, with the projection their `Idefics2Connector`.
- Hidden channels of MLPs are four times the outer ones, and what has no setting is in
  `requirements`.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats import hub_folder
from interop.formats.huggingface.config_json import architecture, refuse_unknown
from interop.formats.settings import check_settings
from interop.formats.torch_layers import linear, rms_norm
from interop.ops import JOIN, TRANSPOSE
from interop.rows import Row, row, table
from perceiver_jax.config import ConfigError, from_dict
from perceiver_jax.models import ResamplerConfig

WHOSE = "Hugging Face's resampler of Idefics2"
ALONE, CONNECTOR = "Idefics2PerceiverResampler", "Idefics2Connector"
WHOLE = {
    "Idefics2ForConditionalGeneration": "model.connector.",
    "Idefics2Model": "connector.",
}
"""Classes that a connector is a part of, and what its names begin with there."""
CLASSES = (ALONE, CONNECTOR, *WHOLE)
ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu"}
"""`hidden_act`, which gates, and our `activation`; of several names the first is written."""
WIDENING = 4
DEFAULTS: dict[str, Any] = {
    "hidden_act": "silu",
    "hidden_size": 4096,
    "rms_norm_eps": 1e-6,
    "resampler_n_latents": 64,
    "resampler_depth": 3,
    "resampler_n_heads": 16,
    "resampler_head_dim": 96,
    "num_key_value_heads": 4,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}
TEXT_DEFAULTS: dict[str, Any] = {
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "rms_norm_eps": 1e-5,
}
"""What a text model has where nothing is said, if it is a Mistral."""
NUM_FEATURE_CHANNELS = 768
"""The same of the vision model."""


def config(settings: Mapping[str, Any]) -> ResamplerConfig:
    """Our config from a `config.json`, of a whole Idefics2 too.

    Raises:
        ConfigError: a setting that is unknown, or one that cannot be expressed.
    """
    if architecture(settings, CLASSES) == ALONE:
        refuse_unknown(settings, DEFAULTS, hub_folder.PROVENANCE)
        return from_dict(ResamplerConfig, _fields(DEFAULTS | dict(settings)), "config.json")
    perceiver, text = _given(settings, "perceiver_config"), _text(settings)
    refuse_unknown(perceiver, DEFAULTS)
    perceiver = DEFAULTS | perceiver
    if perceiver["hidden_size"] != text["hidden_size"]:
        # Theirs then takes both for defaults.
        perceiver |= {name: text[name] for name in ("hidden_size", "rms_norm_eps")}
    if text["hidden_act"] != perceiver["hidden_act"]:
        raise ConfigError(
            f"config.json: hidden_act={perceiver['hidden_act']!r} of perceiver_config is not the "
            f"{text['hidden_act']!r} of text_config, which the projection has; ours has one for "
            "both"
        )
    channels = _given(settings, "vision_config").get("hidden_size", NUM_FEATURE_CHANNELS)
    projection = {
        "num_input_channels": channels,
        "num_input_hidden_channels": text["intermediate_size"],
    }
    return from_dict(ResamplerConfig, _fields(perceiver) | projection, "config.json")


def _fields(perceiver: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ours from complete settings of the resampler alone."""
    activation, num_heads = perceiver["hidden_act"], perceiver["resampler_n_heads"]
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ConfigError(f"config.json: hidden_act={activation!r}; known are {known}")
    return {
        "num_latents": perceiver["resampler_n_latents"],
        "num_latent_channels": perceiver["hidden_size"],
        "num_layers": perceiver["resampler_depth"],
        "num_heads": num_heads,
        "num_kv_heads": perceiver["num_key_value_heads"],
        "num_qk_channels": num_heads * perceiver["resampler_head_dim"],
        "activation": ACTIVATIONS[activation],
        "norm": "rms_norm",
        "layer_norm_epsilon": perceiver["rms_norm_eps"],
        "masked_rows": "uniform",
        "dropout": perceiver["attention_dropout"],
        "init_scale": perceiver["initializer_range"],
    }


def _text(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the text model, and of a Mistral what is not."""
    text = _given(settings, "text_config")
    kind = text.get("model_type", "mistral")
    missing = [name for name in TEXT_DEFAULTS if name not in text]
    if kind != "mistral" and missing:
        raise ConfigError(
            f"config.json: text_config is of type {kind} and does not tell {', '.join(missing)}; "
            "add them"
        )
    return TEXT_DEFAULTS | text


def _given(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = settings.get(name)
    if not isinstance(part, Mapping | None):
        raise ConfigError(f"config.json: {name}={part!r} is no group of settings")
    return dict(part or {})


def settings(config: ResamplerConfig) -> dict[str, Any]:
    """A `config.json` that describes the model.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    perceiver = {
        "model_type": "idefics2_perceiver",
        "hidden_act": names[config.activation],
        "hidden_size": config.num_latent_channels,
        "rms_norm_eps": config.layer_norm_epsilon,
        "resampler_n_latents": config.num_latents,
        "resampler_depth": config.num_layers,
        "resampler_n_heads": config.num_heads,
        "resampler_head_dim": num_qk_channels(config) // config.num_heads,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "attention_dropout": config.dropout,
        "initializer_range": DEFAULTS["initializer_range"]
        if config.init_scale is None
        else config.init_scale,
    }
    if config.num_input_channels is None:
        return {"architectures": [ALONE], **perceiver}
    return {
        "architectures": [CONNECTOR],
        "model_type": "idefics2",
        "perceiver_config": perceiver,
        "text_config": {
            "model_type": "mistral",
            "hidden_act": perceiver["hidden_act"],
            "hidden_size": config.num_latent_channels,
            "intermediate_size": config.num_input_hidden_channels,
            "rms_norm_eps": config.layer_norm_epsilon,
        },
        "vision_config": {"hidden_size": config.num_input_channels},
    }


def requirements(config: ResamplerConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their classes do not let choose, as (value, the one it has to be)."""
    known, channels = config.activation in ACTIVATIONS.values(), config.num_input_channels
    return {
        **resampler_requirements(config),
        "activation": (config.activation, config.activation if known else "swiglu"),
        "qk_norm": (config.qk_norm, False),
        # Their projection is an MLP.
        "num_input_channels": (channels, channels if config.num_input_hidden_channels else None),
    }


def resampler_requirements(config: ResamplerConfig) -> dict[str, tuple[Any, Any]]:
    """What neither Idefics lets choose."""
    channels = num_qk_channels(config)
    only: dict[str, Any] = {
        "qkv_bias": False,
        "out_bias": False,
        "mlp_bias": False,
        "rotary_channels": 0,
        "latents_contribute_kv": True,
        "widening_factor": WIDENING,
        "max_frames": None,
        "output_norm": True,
        "num_output_channels": None,
    }
    return {
        **{name: (getattr(config, name), value) for name, value in only.items()},
        "num_v_channels": (config.num_v_channels or channels, channels),
    }


def num_qk_channels(config: ResamplerConfig) -> int:
    """Query channels of all heads."""
    return config.num_qk_channels or config.num_latent_channels


def rows(config: ResamplerConfig) -> list[Row]:
    """The state dict of their class.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    projected = config.num_input_channels is not None
    below = "perceiver_resampler." if projected else ""
    result = _mlp("input_projection", "modality_projection") if projected else []
    result.append(row("latents", f"{below}latents"))
    for i in range(config.num_layers):
        result += _layer(f"layer/{i}", f"{below}layers.{i}")
    return table([*result, *rms_norm("output_norm", f"{below}norm")])


def _layer(ours: str, theirs: str) -> list[Row]:
    """An `Idefics2PerceiverLayer`."""
    attention = f"{ours}/attention"
    return [
        *rms_norm(f"{ours}/q_norm", f"{theirs}.input_latents_norm"),
        *rms_norm(f"{ours}/kv_norm", f"{theirs}.input_context_norm"),
        *linear(f"{attention}/query", f"{theirs}.self_attn.q_proj", bias=False),
        *linear(f"{attention}/key", f"{theirs}.self_attn.k_proj", bias=False),
        *linear(f"{attention}/value", f"{theirs}.self_attn.v_proj", bias=False),
        *linear(f"{attention}/output", f"{theirs}.self_attn.o_proj", bias=False),
        *rms_norm(f"{ours}/mlp_norm", f"{theirs}.post_attention_layernorm"),
        *_mlp(f"{ours}/mlp", f"{theirs}.mlp"),
    ]


def _mlp(ours: str, theirs: str) -> list[Row]:
    """An `Idefics2MLP`: values, then gates."""
    hidden = (f"{theirs}.up_proj.weight", f"{theirs}.gate_proj.weight")
    return [
        row(f"{ours}/hidden/kernel", hidden, JOIN(2, 1, TRANSPOSE)),
        *linear(f"{ours}/output", f"{theirs}.down_proj", bias=False),
    ]
