r"""Perceiver IO that hears which families of instruments play, raw or by mel spectrogram.

python -m perceiver_jax.train.main --config=configs/instruments.py --workdir=runs/instruments
python -m perceiver_jax.train.main --config=configs/instruments.py:mel \
    --workdir=runs/instruments_mel

- Endless mixes of one to three recorded notes of eight families, a second each; the held-out ones
  are of 16 instruments that training has not heard. The recordings are of the package pretty_midi;
  `python -m perceiver_jax.data.audio.general_midi` fetches them where it is not installed.
- Held-out mean average precision 43.1 % raw, 55.5 % by spectrogram (medians of seeds 0 to 2); of
  new mixes of the instruments trained on, 70.7 % and 66.9 % (seed 0). See docs/audio.md.
- Without a variant (or as `waveform`) a token is 128 samples; as `mel`, 5 frames by 8 bands.
"""

import dataclasses

from perceiver_jax.adapters import ModalityConfig, SpectrogramConfig, WaveformConfig
from perceiver_jax.config import to_config_dict
from perceiver_jax.data import AudioDataConfig
from perceiver_jax.data.audio import MelConfig
from perceiver_jax.models import ClassificationDecoderConfig, PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import Classification

ENCODER = {
    "num_cross_attention_heads": 4,
    "num_cross_attention_qk_channels": 64,
    "cross_attention_widening_factor": 2,
    "num_self_attention_heads": 4,
    "num_self_attention_layers_per_block": 2,
    "self_attention_widening_factor": 2,
    "init_method": "variance_scaling",
    "latent_init_scale": 1.0,
}


def get_config(variant: str | None = None):
    """The run; variants `waveform` and `mel`, and `smoke`, which takes three steps."""
    smoke = is_smoke(variant, "waveform", "mel")
    mel = variant == "mel"
    encoder: ModalityConfig = WaveformConfig(
        num_samples=16_000, samples_per_patch=128, num_frequency_bands=16, **ENCODER
    )
    if mel:
        encoder = SpectrogramConfig(
            num_frames=50, num_mel_bands=64, patch_size=(5, 8), num_frequency_bands=8, **ENCODER
        )
    config = ExperimentConfig(
        task=Classification(),
        model=PerceiverConfig(
            encoder=encoder,
            decoder=ClassificationDecoderConfig(
                num_classes=8,
                num_output_query_channels=64,
                num_cross_attention_heads=4,
                init_method="variance_scaling",
            ),
            num_latents=16,
            num_latent_channels=64,
        ),
        data=AudioDataConfig(
            dataset="instruments",
            batch_size=64,
            eval_batch_size=128,
            sample_rate=16_000,
            num_samples=16_000,
            representation="mel" if mel else "waveform",
            mel=MelConfig(
                num_mel_bands=64,
                hop_length=320,
                window_length=1024,
                num_time_masks=1,
                num_frequency_masks=2,
                max_frequency_mask=8,
            ),
            normalization="crop",
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-3,
            schedule="cosine",
            warmup_steps=200,
            weight_decay=0.05,
            no_decay=(r"bias$", r"norm/scale$", r"latents$", r"queries$"),
            clip_norm=1.0,
        ),
        num_steps=1500,
        log_every=20,
        eval_every=500,
        checkpoint=CheckpointConfig(every=500, best_metric="mean_average_precision"),
    )
    return to_config_dict(_short(config) if smoke else config)


def _short(config: ExperimentConfig) -> ExperimentConfig:
    """Three steps, on sounds that need no file."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, dataset="synthetic", batch_size=4, eval_batch_size=4),
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
        num_steps=3,
        log_every=1,
    )
