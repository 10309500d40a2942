"""Perceiver resamplers as models of their own: between an encoder of any kind and a decoder."""

from perceiver_jax.core import PerceiverResampler, ResamplerConfig
from perceiver_jax.models.release import Releasable


class Resampler(PerceiverResampler, Releasable):
    """A `PerceiverResampler` that can be saved, released and converted."""


def idefics2_resampler() -> ResamplerConfig:
    """The resampler of Idefics2: features of the language model's channels to 64 tokens.

    Source: the defaults of transformers' `Idefics2PerceiverConfig`. Its `Idefics2Connector` has an
    MLP before it: `num_input_channels=1152`, `num_input_hidden_channels=14336`.
    """
    return ResamplerConfig(
        num_latents=64,
        num_latent_channels=4096,
        num_layers=3,
        num_heads=16,
        num_kv_heads=4,
        num_qk_channels=16 * 96,
        activation="swiglu",
        norm="rms_norm",
        layer_norm_epsilon=1e-6,
        masked_rows="uniform",
    )


def flamingo_resampler(num_channels: int, *, max_frames: int | None = None) -> ResamplerConfig:
    """The resampler of Flamingo: 64 latents, 6 layers, 8 heads of 64 channels.

    Args:
        num_channels: channels of features and of what comes out.
        max_frames: frames of a video at most; None: pictures alone.

    Source: Flamingo (Alayrac et al. 2022), appendix A.1.1.
    """
    return ResamplerConfig(
        num_latents=64,
        num_latent_channels=num_channels,
        num_layers=6,
        num_heads=8,
        num_qk_channels=8 * 64,
        activation="squared_relu",
        max_frames=max_frames,
    )
