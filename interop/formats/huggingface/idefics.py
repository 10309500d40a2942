"""The resampler of IDEFICS, the first: that of Flamingo, with norms of heads where these are set.

- Their `IdeficsPerceiverResampler` is made of the settings of a whole IDEFICS.
- It takes no mask.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.huggingface.config_json import architecture, refuse_unknown
from interop.formats.huggingface.idefics2 import num_qk_channels, resampler_requirements
from interop.formats.settings import check_settings
from interop.formats.torch_layers import linear, norm
from interop.rows import Row, row, table
from perceiver_jax.config import ConfigError, from_dict
from perceiver_jax.models import ResamplerConfig

WHOSE = "Hugging Face's resampler of IDEFICS"
ALONE = "IdeficsPerceiverResampler"
WHOLE = {
    "IdeficsForVisionText2Text": "model.perceiver_resampler.",
    "IdeficsModel": "perceiver_resampler.",
}
"""Classes that a resampler is a part of, and what its names begin with there."""
CLASSES = (ALONE, *WHOLE)
NOTES = ("it takes no mask: what is padding has to be cut off before",)
DEFAULTS: dict[str, Any] = {
    "use_resampler": False,
    "resampler_n_latents": 64,
    "resampler_depth": 6,
    "resampler_n_heads": 16,
    "resampler_head_dim": 96,
    "qk_layer_norms_perceiver": False,
}
NUM_CHANNELS = 768
"""Channels of features, and so of latents, where the vision model does not say."""


def config(settings: Mapping[str, Any]) -> ResamplerConfig:
    """Our config from a `config.json` of IDEFICS.

    Raises:
        ConfigError: it has no resampler, or a setting that is unknown or cannot be expressed.
    """
    architecture(settings, CLASSES)
    parts = {name: settings.get(name) or {} for name in ("perceiver_config", "vision_config")}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            raise ConfigError(f"config.json: {name}={part!r} is no group of settings")
    if not settings.get("use_resampler", False):
        raise ConfigError("config.json: use_resampler=False, so there is no resampler in the model")
    refuse_unknown(parts["perceiver_config"], DEFAULTS)
    perceiver, vision = DEFAULTS | dict(parts["perceiver_config"]), parts["vision_config"]
    num_heads = perceiver["resampler_n_heads"]
    fields = {
        "num_latents": perceiver["resampler_n_latents"],
        "num_latent_channels": vision.get("embed_dim", vision.get("hidden_size", NUM_CHANNELS)),
        "num_layers": perceiver["resampler_depth"],
        "num_heads": num_heads,
        "num_qk_channels": num_heads * perceiver["resampler_head_dim"],
        "qk_norm": perceiver["qk_layer_norms_perceiver"],
        "activation": "relu",
        "masked_rows": "uniform",
        "latent_init_scale": 1.0,
    }
    return from_dict(ResamplerConfig, fields, "config.json")


def settings(config: ResamplerConfig) -> dict[str, Any]:
    """A `config.json` that describes the model.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    return {
        "architectures": [ALONE],
        "model_type": "idefics",
        "use_resampler": True,
        "vision_config": {"embed_dim": config.num_latent_channels},
        "perceiver_config": {
            "use_resampler": True,
            "resampler_n_latents": config.num_latents,
            "resampler_depth": config.num_layers,
            "resampler_n_heads": config.num_heads,
            "resampler_head_dim": num_qk_channels(config) // config.num_heads,
            "qk_layer_norms_perceiver": config.qk_norm,
        },
    }


def requirements(config: ResamplerConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their class does not let choose, as (value, the one it has to be)."""
    num_kv_heads = None if config.num_kv_heads == config.num_heads else config.num_kv_heads
    return {
        **resampler_requirements(config),
        "activation": (config.activation, "relu"),
        "layer_norm_epsilon": (config.layer_norm_epsilon, 1e-5),
        "num_kv_heads": (num_kv_heads, None),
        "num_input_channels": (config.num_input_channels, None),
        "num_input_hidden_channels": (config.num_input_hidden_channels, None),
    }


def rows(config: ResamplerConfig) -> list[Row]:
    """The state dict of their class.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    result = [row("latents", "latents")]
    for i in range(config.num_layers):
        result += _layer(f"layer/{i}", f"blocks.{i}", qk_norm=config.qk_norm)
    return table([*result, *norm("output_norm", "layer_norm")])


def _layer(ours: str, theirs: str, *, qk_norm: bool) -> list[Row]:
    """An `IdeficsPerceiverAttention` and an `IdeficsMLP`."""
    attention, attended, mlp = f"{ours}/attention", f"{theirs}.0", f"{theirs}.1"
    heads = [
        *norm(f"{attention}/query_norm", f"{attended}.q_layer_norm"),
        *norm(f"{attention}/key_norm", f"{attended}.k_layer_norm"),
    ]
    return [
        *norm(f"{ours}/q_norm", f"{attended}.latents_layer_norm"),
        *norm(f"{ours}/kv_norm", f"{attended}.context_layer_norm"),
        *(heads if qk_norm else []),
        *linear(f"{attention}/query", f"{attended}.q_proj", bias=False),
        *linear(f"{attention}/key", f"{attended}.k_proj", bias=False),
        *linear(f"{attention}/value", f"{attended}.v_proj", bias=False),
        *linear(f"{attention}/output", f"{attended}.output_proj", bias=False),
        *norm(f"{ours}/mlp_norm", f"{mlp}.ln"),
        *linear(f"{ours}/mlp/hidden", f"{mlp}.fc", bias=False),
        *linear(f"{ours}/mlp/output", f"{mlp}.c_proj", bias=False),
    ]
