"""Resamplers of Hugging Face's IDEFICS and Idefics2: alone, or behind a projection of features.

- Idefics2's RMS norms compute in float32, whatever the model's type; where that is float64 they are
  computed anew in it.
- IDEFICS takes no mask: each example is given to it without its padding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.formats.huggingface import idefics, idefics2
from interop.references.torch_stages import Stages, recording

CLASSES = (idefics.ALONE, idefics2.ALONE, idefics2.CONNECTOR)


def build(settings: Mapping[str, Any]) -> Any:
    """The class that a `config.json` names, with random weights, in eval mode.

    Args:
        settings: of its `config.json`, which names one of `CLASSES`.
    """
    (architecture,) = settings["architectures"]
    if architecture == idefics.ALONE:
        return _idefics(settings)
    from transformers.models.idefics2 import configuration_idefics2 as configuration
    from transformers.models.idefics2 import modeling_idefics2 as modeling

    kind = configuration.Idefics2Config
    if architecture == idefics2.ALONE:
        kind = configuration.Idefics2PerceiverConfig
    return exact_norms(getattr(modeling, architecture)(kind(**settings)).eval())


def _idefics(settings: Mapping[str, Any]) -> Any:
    from transformers import IdeficsConfig
    from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

    config: Any = IdeficsConfig(**settings)
    perceiver = config.perceiver_config
    model = IdeficsPerceiverResampler(
        config,
        config.vision_config.embed_dim,
        perceiver.resampler_depth,
        perceiver.resampler_n_heads,
        perceiver.resampler_head_dim,
        perceiver.resampler_n_latents,
    )
    return model.eval()


def is_resampler(model: Any) -> bool:
    """Whether a model is one of `CLASSES`."""
    return type(model).__name__ in CLASSES


def exact_norms(model: Any) -> Any:
    """The model, its RMS norms computing in float64 where that is torch's default type."""
    import torch
    from transformers.models.idefics2.modeling_idefics2 import Idefics2RMSNorm

    if torch.get_default_dtype() != torch.float64:
        return model

    def exact(module, arguments, _):
        (x,) = arguments
        return torch.nn.functional.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)

    for module in model.modules():
        if isinstance(module, Idefics2RMSNorm):
            module.register_forward_hook(exact)
    return model


def forward(model: Any, inputs: Mapping[str, Any]) -> Any:
    """[B, N, D] resampled features, a tensor with gradients; arguments as of `stages`."""
    import torch

    features = torch.from_numpy(np.ascontiguousarray(inputs["inputs"]))
    mask = inputs.get("input_mask")
    if type(model).__name__ == idefics.ALONE:
        if mask is None:
            return model(features)
        return torch.cat([model(x[None, kept]) for x, kept in zip(features, mask, strict=True)])
    kept = torch.ones(features.shape[:2], dtype=torch.bool)
    if mask is not None:
        kept = torch.from_numpy(np.ascontiguousarray(mask))
    return model(features, attention_mask=kept)


def stages(model: Any, inputs: Mapping[str, Any]) -> Stages:
    """Runs a model and records what its layers return, under our names.

    Args:
        model: as made by `build`.
        inputs: `inputs`, [B, M, C] features; `input_mask`, [B, M] bool, True = a feature.

    Returns:
        [(name of our stage, array)] in order of computation, `outputs` last.
    """
    import torch

    if type(model).__name__ == idefics.ALONE:
        return _stages_of_idefics(model, inputs)
    resampler = getattr(model, "perceiver_resampler", model)
    modules, taking = {}, {"inputs": resampler.layers[0].input_context_norm}
    for i, layer in enumerate(resampler.layers):
        taking[f"layer/{i}/attention"] = layer.post_attention_layernorm
        modules[f"layer/{i}/mlp"] = layer
    with recording(modules, taking) as recorded, torch.no_grad():
        outputs = forward(model, inputs)
    return [*recorded, ("outputs", outputs.numpy(force=True))]


def _stages_of_idefics(model: Any, inputs: Mapping[str, Any]) -> Stages:
    """The same, where masked examples are run one by one, and residuals are no modules."""
    import torch

    taking = {f"layer/{i}/attention": mlp for i, (_, mlp) in enumerate(model.blocks)}
    after = [*(attention.latents_layer_norm for attention, _ in model.blocks), model.layer_norm]
    taking |= {f"layer/{i}/mlp": norm for i, norm in enumerate(after[1:])}
    with recording({}, taking) as recorded, torch.no_grad():
        outputs = forward(model, inputs)
    names = dict.fromkeys(name for name, _ in recorded)
    latents = [
        (name, np.concatenate([array for other, array in recorded if other == name]))
        for name in names
    ]
    return [("inputs", inputs["inputs"]), *latents, ("outputs", outputs.numpy(force=True))]
