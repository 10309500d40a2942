"""Models of optical flow of three references beside ours with the same weights.

- Tiny random models; 64 channels of a pixel and 64 frequencies stand in Hugging Face's code.
- DeepMind's function is put together from Hugging Face's modules, and has their names.
"""

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from interop import load
from interop.formats import deepmind, huggingface, krasserm
from interop.formats.huggingface import optical_flow as huggingface_flow
from interop.references import ReferenceMissing, frames
from interop.references import deepmind as deepmind_reference
from interop.references import huggingface as huggingface_reference
from interop.references import krasserm as krasserm_reference
from perceiver_jax import models
from perceiver_jax.models import PerceiverConfig
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import wanted

SIZE = (4, 5)
NUM_PIXELS = 20
HUGGINGFACE = {
    "architectures": ["PerceiverForOpticalFlow"],
    "num_latents": 3,
    "d_latents": 8,
    "num_blocks": 2,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1,
    "train_size": list(SIZE),
}
KRASSERM_ENCODER = {
    "image_shape": SIZE,
    "num_patch_hidden_channels": 5,
    "num_frequency_bands": 2,
    "num_cross_attention_heads": 1,
    "num_self_attention_heads": 2,
    "num_self_attention_layers_per_block": 2,
}
KRASSERM_DECODER = {
    "image_shape": SIZE,
    "num_cross_attention_heads": 1,
    "cross_attention_residual": False,
}
OWN_CHANNELS = {
    "num_cross_attention_heads": 2,
    "num_cross_attention_qk_channels": 6,
    "cross_attention_widening_factor": 2,
}
REPEATED = {
    "num_cross_attention_layers": 2,
    "num_self_attention_blocks": 3,
    "num_self_attention_layers_per_block": 1,
    "first_self_attention_block_shared": False,
}
DEEPMIND_FEATURES = {"num_bands": 2, "max_resolution": [9, 7]}
DEEPMIND_PREPROCESSOR = {
    "prep_type": "patches",
    "spatial_downsample": 1,
    "temporal_downsample": 2,
    "conv_after_patching": True,
    "num_channels": 5,
    "fourier_position_encoding_kwargs": DEEPMIND_FEATURES,
}
DEEPMIND_ENCODER = {
    "z_index_dim": 3,
    "num_z_channels": 8,
    "num_self_attends_per_block": 2,
    "num_blocks": 2,
    "num_self_attend_heads": 2,
}
DEEPMIND_DECODER = {
    "position_encoding_type": "fourier",
    "fourier_position_encoding_kwargs": DEEPMIND_FEATURES,
}


def huggingface_settings(**changes):
    return HUGGINGFACE | changes


def krasserm_settings(encoder=None, decoder=None):
    return {
        "encoder": KRASSERM_ENCODER | (encoder or {}),
        "decoder": KRASSERM_DECODER | (decoder or {}),
        "num_latents": 3,
        "num_latent_channels": 8,
    }


def deepmind_settings(flow_scale=20.0, encoder=None, decoder=None):
    return {
        "task": "optical_flow",
        "train_size": list(SIZE),
        "flow_scale_factor": flow_scale,
        "input_preprocessor": DEEPMIND_PREPROCESSOR,
        "encoder": DEEPMIND_ENCODER | (encoder or {}),
        "decoder": DEEPMIND_DECODER | (decoder or {}),
    }


CASES: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    # name: (format, settings)
    "huggingface": (huggingface, huggingface_settings()),
    "huggingface, tanh form of GELU, no residual": (
        huggingface,
        huggingface_settings(hidden_act="gelu_pytorch_tanh", use_query_residual=False),
    ),
    "huggingface, shape of the queries": (
        huggingface,
        huggingface_settings(
            cross_attention_shape_for_attention="q",
            num_cross_attention_heads=4,
            cross_attention_widening_factor=2,
        ),
    ),
    "huggingface, channels of their own, the decoder's by its queries": (
        huggingface,
        huggingface_settings(
            qk_channels=4,
            v_channels=8,
            num_cross_attention_heads=2,
            cross_attention_shape_for_attention="q",
            self_attention_widening_factor=3,
        ),
    ),
    "huggingface, twelve layers": (
        huggingface,
        huggingface_settings(num_self_attends_per_block=12, num_blocks=1),
    ),
    "krasserm": (krasserm, krasserm_settings()),
    "krasserm, repeated": (krasserm, krasserm_settings(REPEATED)),
    "krasserm, channels of their own but for values": (
        krasserm,
        krasserm_settings(
            {"num_patch_hidden_channels": 4} | OWN_CHANNELS,
            OWN_CHANNELS | {"num_cross_attention_v_channels": 10},
        ),
    ),
    "krasserm, residual, another scale": (
        krasserm,
        krasserm_settings(decoder={"cross_attention_residual": True, "rescale_factor": 30.0}),
    ),
    "krasserm, twelve layers": (
        krasserm,
        krasserm_settings({"num_self_attention_layers_per_block": 12}),
    ),
    "deepmind": (deepmind, deepmind_settings()),
    "deepmind, channels of their own, residual, other scales": (
        deepmind,
        deepmind_settings(
            flow_scale=7.0,
            encoder={"cross_attention_shape_for_attn": "q", "num_cross_attend_heads": 2},
            decoder={
                "num_heads": 2,
                "qk_channels": 6,
                "v_channels": 10,
                "use_query_residual": True,
                "rescale_factor": 30.0,
            },
        ),
    ),
}
USUAL = [name for name in CASES if "," not in name]
MASKED = ["huggingface", "deepmind"]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A reference with random weights, and our model's structure."""

    format: ModuleType
    model: Any
    config: PerceiverConfig
    structure: Skeleton

    @property
    def rows(self):
        """The reference for DeepMind's function has names of Hugging Face's modules."""
        if self.format is deepmind:
            return huggingface_flow.state_dict_rows(self.config)
        return self.format.rows(self.config)

    @property
    def parameters(self):
        return [row for row in self.rows if row.default is None]

    def arrays(self, dtype=None):
        return load(self.rows, torch_models.state(self.model), wanted(self.structure, dtype))

    def stages(self, inputs):
        of_krasserm = self.format is krasserm
        return (krasserm_reference if of_krasserm else huggingface_reference).stages(
            self.model, inputs
        )

    def flow(self, given, mask=None):
        """[B, H, W, 2] in pixels, a tensor with gradients."""
        import torch

        if self.format is krasserm:
            return self.model(torch.from_numpy(frames.patches(given))) * frames.FLOW_SCALE
        inputs = {"inputs": given} | ({} if mask is None else {"input_mask": mask})
        return huggingface_reference.forward(self.model, inputs)


def make_pair(name: str, size: tuple[int, int] = SIZE) -> Pair:
    module, settings = CASES[name]
    if size != SIZE:
        settings = resized(settings, size)
    reference = {
        huggingface: huggingface_reference,
        krasserm: krasserm_reference,
        deepmind: deepmind_reference,
    }[module]
    try:
        model = reference.build(settings)
    except ReferenceMissing as error:
        pytest.skip(str(error))
    torch_models.randomise(model, seed=len(name))
    narrow(model)
    config = module.config(settings)
    return Pair(module, model, config, models.skeleton(config))


def narrow(model: Any) -> None:
    """Makes sums over hundreds of channels as large as those over 16, for flow of order 1."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module.in_features > 16:
                module.weight *= (16 / module.in_features) ** 0.5


def resized(settings: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    if "encoder" in settings and "image_shape" in settings["encoder"]:
        halves = {half: settings[half] | {"image_shape": size} for half in ("encoder", "decoder")}
        return settings | halves
    return settings | {"train_size": list(size)}


def make_frames(dtype="float64", size=SIZE, seed=0):
    return np.random.default_rng(seed).normal(size=(3, 2, *size, 3)).astype(dtype)


def make_mask(num_pixels=NUM_PIXELS):
    """[B, M] True = a pixel; the last pair of frames has none."""
    mask = np.random.default_rng(1).random((3, num_pixels)) < 0.6
    mask[0, 0], mask[-1] = True, False
    return mask
