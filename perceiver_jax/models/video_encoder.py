"""Encoders of video, sound and label together."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import (
    LabelInputAdapter,
    MultimodalInputAdapter,
    VideoInputAdapter,
    WaveformInputAdapter,
)
from perceiver_jax.adapters.audio import num_patches
from perceiver_jax.adapters.input_arrays import InputArray, InputArrays
from perceiver_jax.adapters.video import patch_grid
from perceiver_jax.config import part, setting
from perceiver_jax.core import EncoderConfig, PerceiverEncoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoEncoderConfig(EncoderConfig):
    """An encoder of clips: frames, a waveform and a label."""

    num_cross_attention_qk_channels: int | None = setting(
        None, "query and key channels of all heads together; None: the channels of a token"
    )
    video_shape: tuple[int, int, int, int] = setting(
        (16, 224, 224, 3), "frames, height, width, colours"
    )
    patch_size: int = setting(4, "side of the square patches that are tokens, in pixels")
    num_video_frequency_bands: int = setting(32, "Fourier frequencies per axis of the video")
    video_max_resolution: tuple[float, float, float] | None = setting(
        None,
        "frequencies go from 1 to half of this, per axis; None: the grid of patches",
    )
    num_samples: int = setting(30_720, "samples of the waveform")
    samples_per_patch: int = setting(16, "samples of a token")
    num_audio_frequency_bands: int = setting(192, "Fourier frequencies of the waveform")
    num_classes: int = setting(700, "classes of the label")
    min_padding_size: int = setting(
        4, "learned channels that tell modalities apart, at least", minimum=0
    )
    video_mask_rate: float = setting(0.0, "fraction of patches that training hides, in [0, 1]")
    audio_mask_rate: float = setting(0.0, "fraction of stretches of sound that training hides")
    label_mask_rate: float = setting(
        1.0, "how often training hides the label; at 1 it is always hidden"
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("video_mask_rate", "audio_mask_rate", "label_mask_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)} is not in [0, 1]")
        if self.min_padding_size < 0:
            raise ValueError(f"min_padding_size={self.min_padding_size} must be 0 or more")
        if min(self.video_shape) < 1:
            raise ValueError(f"video_shape={self.video_shape} has sizes below 1")
        patch_grid(self.video_shape, self.patch_size)
        num_patches(self.num_samples, self.samples_per_patch)

    @property
    def video_resolution(self) -> tuple[float, float, float]:
        """What frequencies go up to half of, along time, rows and columns."""
        if self.video_max_resolution is not None:
            return self.video_max_resolution
        return patch_grid(self.video_shape, self.patch_size)

    def input_arrays(self) -> InputArrays:
        """What the model is called with; the label is left out, for it to guess."""
        image = InputArray(
            shape=self.video_shape,
            dtype="float32",
            meaning="frames, channels last: pixel / 255",
            least=0.0,
            most=1.0,
        )
        audio = InputArray(
            shape=(self.num_samples, 1),
            dtype="float32",
            meaning="waveform, mono; zeros where there is no sound",
            least=-1.0,
            most=1.0,
        )
        return {"inputs": {"image": image, "audio": audio}}


def video_encoder(
    config: VideoEncoderConfig, *, num_latents: int, num_latent_channels: int, rngs: nnx.Rngs
) -> PerceiverEncoder:
    """The encoder that the config describes."""
    adapter = MultimodalInputAdapter(
        {
            "image": VideoInputAdapter(
                video_shape=config.video_shape,
                patch_size=config.patch_size,
                num_frequency_bands=config.num_video_frequency_bands,
                max_resolution=config.video_resolution,
            ),
            "audio": WaveformInputAdapter(
                num_samples=config.num_samples,
                samples_per_patch=config.samples_per_patch,
                num_frequency_bands=config.num_audio_frequency_bands,
            ),
            "label": LabelInputAdapter(num_classes=config.num_classes),
        },
        min_padding_size=config.min_padding_size,
        mask_rates={
            "image": config.video_mask_rate,
            "audio": config.audio_mask_rate,
            "label": config.label_mask_rate,
        },
        init=config.init,
        rngs=rngs,
    )
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
