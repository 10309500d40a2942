"""A tiny config of every family of models, with the data that its sizes come from, if any."""

from perceiver_jax.adapters import (
    PointCloudConfig,
    SpectrogramConfig,
    TimeSeriesConfig,
    WaveformConfig,
)
from perceiver_jax.data import TimeSeriesDataConfig
from perceiver_jax.models import (
    ArrayEncoderConfig,
    CausalSequenceConfig,
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
    ResamplerConfig,
    TextDecoderConfig,
    TextEncoderConfig,
    VideoDecoderConfig,
    VideoEncoderConfig,
)
from tests.toy_modality import ToyData, toy_model

CROSS = {"num_cross_attention_heads": 1}
LAYERS = {**CROSS, "num_self_attention_heads": 2, "num_self_attention_layers_per_block": 1}
WORDS = {"vocab_size": 262, "max_seq_len": 12}


def two_halves(encoder, decoder=None):
    decoder = decoder or ClassificationDecoderConfig(
        num_classes=3, num_output_query_channels=8, **CROSS
    )
    return PerceiverConfig(encoder=encoder, decoder=decoder, num_latents=4, num_latent_channels=8)


def images(**fields):
    fields = {"image_shape": (8, 8, 3), "num_frequency_bands": 2} | LAYERS | fields
    return two_halves(ImageEncoderConfig(**fields))


def texts(decoder=None):
    return two_halves(TextEncoderConfig(num_input_channels=8, **WORDS, **LAYERS), decoder)


def causal(**fields):
    sizes = {"max_latents": 6, "num_channels": 16, "num_heads": 2, "num_self_attention_layers": 2}
    return CausalSequenceConfig(**(WORDS | sizes | fields))


def resampler(**fields):
    sizes = {"num_latents": 4, "num_latent_channels": 8, "num_layers": 1, "num_heads": 2}
    return ResamplerConfig(**(sizes | fields))


FAMILIES = {
    "image": (images(), None),
    "image_conv": (
        images(preprocessing="conv", num_preprocessing_channels=4, image_shape=(16, 16, 3)),
        None,
    ),
    "image_half": (images(compute_dtype="bfloat16"), None),
    "mlm": (texts(TextDecoderConfig(**WORDS, **CROSS)), None),
    "text": (texts(), None),
    "causal": (causal(), None),
    "causal_positions": (
        causal(position_shape=(4, 5), rotary_fraction=0.0, abs_pos_emb=True),
        None,
    ),
    "flow": (
        two_halves(
            OpticalFlowEncoderConfig(
                image_shape=(6, 10), num_patch_hidden_channels=4, num_frequency_bands=2, **LAYERS
            ),
            OpticalFlowDecoderConfig(**CROSS),
        ),
        None,
    ),
    "video": (
        two_halves(
            VideoEncoderConfig(
                video_shape=(2, 8, 12, 3),
                num_video_frequency_bands=2,
                num_samples=160,
                num_audio_frequency_bands=3,
                num_classes=3,
                **LAYERS,
            ),
            VideoDecoderConfig(num_label_query_channels=6, num_output_channels=5, **CROSS),
        ),
        None,
    ),
    "waveform": (
        two_halves(
            WaveformConfig(num_samples=64, samples_per_patch=8, num_frequency_bands=2, **LAYERS)
        ),
        None,
    ),
    "spectrogram": (
        two_halves(
            SpectrogramConfig(num_frames=6, num_mel_bands=4, num_frequency_bands=2, **LAYERS),
            MeanPoolDecoderConfig(num_classes=3),
        ),
        None,
    ),
    "resampler": (resampler(), None),
    "resampler_frames": (resampler(max_frames=3, num_input_channels=6), None),
    "points": (two_halves(PointCloudConfig(num_frequency_bands=2, **LAYERS)), None),
    "array": (
        two_halves(
            ArrayEncoderConfig(num_input_channels=3, num_axes=2, **LAYERS),
            MeanPoolDecoderConfig(num_classes=3),
        ),
        None,
    ),
    "series": (
        two_halves(
            TimeSeriesConfig(
                num_channels=2, duration=32.0, num_frequency_bands=2, max_resolution=32.0, **LAYERS
            )
        ),
        TimeSeriesDataConfig(dataset="synthetic", max_length=32),
    ),
    "own": (toy_model(), ToyData()),
}
SIZES = {
    "points": {"points": 7},
    "array": {"axis0": 3, "axis1": 4},
    "resampler": {"features": 5},
    "resampler_frames": {"features": 5, "frames": 2},
}
"""Of those whose sizes nothing else tells."""
