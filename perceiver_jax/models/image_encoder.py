"""Image encoders: which input adapter, and how many of what.

- One config for the four ways images become tokens; fields of a way not chosen must stay unset.
"""

import dataclasses
from typing import Any, Literal

from flax import nnx

from perceiver_jax.adapters import (
    ConvImageInputAdapter,
    ImageInputAdapter,
    InputAdapter,
    LearnedImageInputAdapter,
    PatchImageInputAdapter,
)
from perceiver_jax.adapters.conv_stem import ConvPadding
from perceiver_jax.adapters.input_arrays import InputArray, InputArrays
from perceiver_jax.config import part, setting
from perceiver_jax.core import EncoderConfig, PerceiverEncoder
from perceiver_jax.core.position import ChannelOrder

Preprocessing = Literal["pixels", "patches", "conv", "conv1x1"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig(EncoderConfig):
    """An encoder of images."""

    num_cross_attention_qk_channels: int | None = setting(
        None,
        "query and key channels of all heads together; None: the channels of a token, positions "
        "included (krasserm's ImageClassifier, deepmind's shape_for_attn='kv')",
    )
    image_shape: tuple[int, int, int] = setting((224, 224, 3), "height, width, channels")
    preprocessing: Preprocessing = setting(
        "pixels",
        "what a token is: 'pixels'; 'patches'; 'conv', cells of a convolutional stem; 'conv1x1', "
        "projected pixels with learned positions",
    )
    num_frequency_bands: int = setting(
        32,
        "Fourier frequencies per axis; 0 leaves positions out; not used by 'conv1x1'",
        minimum=0,
    )
    max_resolution: tuple[float, float] | None = setting(
        None, "frequencies go from 1 to half of this, per axis; None: the grid of tokens"
    )
    position_channel_order: ChannelOrder = setting(
        "deepmind", "in which order Fourier channels lie; 'deepmind' is also krasserm's and HF's"
    )
    patch_size: int | None = setting(None, "side of a patch in pixels; for 'patches' only")
    num_preprocessing_channels: int | None = setting(
        None,
        "channels of projected patches (None: not projected), of the stem (None: 64) or of "
        "projected pixels (None: 256)",
    )
    conv_padding: ConvPadding = setting(
        "same",
        "of the stem's convolution and pool: 'same' as TensorFlow and XLA mean it (DeepMind), or "
        "'symmetric' as in PyTorch ports (Hugging Face), where 224 pixels make 55 cells instead "
        "of 56; for 'conv' only",
    )
    num_position_channels: int | None = setting(
        None, "channels of learned positions; for 'conv1x1' only (None: 256)"
    )
    num_projected_position_channels: int | None = setting(
        None,
        "channels that learned positions are projected to; for 'conv1x1' only (None: as many as "
        "they have)",
    )

    def __post_init__(self):
        super().__post_init__()
        if (self.preprocessing == "patches") != (self.patch_size is not None):
            raise ValueError(
                f"patch_size={self.patch_size} does not go with preprocessing="
                f"'{self.preprocessing}'; give patch_size with 'patches', and only there"
            )
        if self.preprocessing != "conv" and self.conv_padding != "same":
            raise ValueError(
                f"conv_padding='{self.conv_padding}' needs preprocessing='conv', not "
                f"'{self.preprocessing}', which has no convolution to pad; leave it unset"
            )
        for name in ("num_position_channels", "num_projected_position_channels"):
            if self.preprocessing != "conv1x1" and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}={getattr(self, name)} needs preprocessing='conv1x1', not "
                    f"'{self.preprocessing}'; the others take num_frequency_bands"
                )
        if self.preprocessing == "pixels" and self.num_preprocessing_channels is not None:
            raise ValueError(
                f"num_preprocessing_channels={self.num_preprocessing_channels} has no meaning with "
                "preprocessing='pixels'; leave it unset, or choose 'patches', 'conv' or 'conv1x1'"
            )

    def input_arrays(self) -> InputArrays:
        """What the model is called with."""
        meaning = "images, channels last, normalised"
        return {"inputs": InputArray(shape=self.image_shape, dtype="float32", meaning=meaning)}


def image_input_adapter(config: ImageEncoderConfig, *, rngs: nnx.Rngs) -> InputAdapter:
    """The input adapter that the config chooses."""
    fourier: dict[str, Any] = {
        "image_shape": config.image_shape,
        "num_frequency_bands": config.num_frequency_bands,
        "max_resolution": config.max_resolution,
        "channel_order": config.position_channel_order,
    }
    learned: dict[str, Any] = {
        "init": config.init,
        "compute_dtype": config.compute_dtype,
        "rngs": rngs,
    }
    if config.preprocessing == "pixels":
        return ImageInputAdapter(**fourier)
    if config.patch_size is not None:  # given for "patches", and only there
        return PatchImageInputAdapter(
            patch_size=config.patch_size,
            num_patch_channels=config.num_preprocessing_channels,
            **fourier,
            **learned,
        )
    if config.preprocessing == "conv":
        return ConvImageInputAdapter(
            num_channels=config.num_preprocessing_channels or 64,
            padding=config.conv_padding,
            **fourier,
            **learned,
        )
    num_position_channels = config.num_position_channels or 256
    return LearnedImageInputAdapter(
        image_shape=config.image_shape,
        num_channels=config.num_preprocessing_channels or 256,
        num_position_channels=num_position_channels,
        num_projected_position_channels=config.num_projected_position_channels
        or num_position_channels,
        **learned,
    )


def image_encoder(
    config: ImageEncoderConfig, *, num_latents: int, num_latent_channels: int, rngs: nnx.Rngs
) -> PerceiverEncoder:
    """The encoder that the config describes."""
    adapter = image_input_adapter(config, rngs=rngs)
    fields = part(config, EncoderConfig)
    if config.num_cross_attention_qk_channels is None:
        fields["num_cross_attention_qk_channels"] = adapter.num_input_channels
    return PerceiverEncoder(
        input_adapter=adapter,
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **fields,
    )
