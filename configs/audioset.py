r"""The Perceiver on the sound of AudioSet, raw or by mel spectrogram: 107,419,677 parameters.

python -m perceiver_jax.train.main --config=configs/audioset.py \
    --config.data.data_dir=/path/to/audioset --workdir=runs/audioset
python -m perceiver_jax.train.main --config=configs/audioset.py:mel \
    --config.data.data_dir=/path/to/audioset --workdir=runs/audioset_mel
python -m perceiver_jax.train.main --config=configs/audioset.py:smoke

- Reads Google's lists of segments and whatever clips of them lie below the folder. `smoke` takes
  three steps of a small model on tones and noises.
- As published (Perceiver §4.2): 1.28 s at 48 kHz as 480 tokens of 128 samples, or 4,800 values of
  a mel spectrogram, which SpecAugment hides a part of; 2 cross-attentions with 8 self-attention
  layers behind each, nothing shared; 100 epochs; sigmoid cross-entropy; evaluation averages 16
  clips over the ten seconds. Of its ImageNet model: 512 latents of 1024 channels, one head across,
  queries, keys and values of as many channels as the input has, LAMB at 0.004.
- Not told there, and assumed: 64 bands up to the grid's Nyquist frequency, the spectrogram's layout
  (60 frames by 80 bands) and scale, the masks' sizes, batch, schedule, weight decay and clipping.
- Published mean average precision 38.3 raw, 38.4 by spectrogram (Perceiver table 3), not reproduced
  here.
"""

import dataclasses
from typing import Any

from perceiver_jax.adapters import ModalityConfig, SpectrogramConfig, WaveformConfig
from perceiver_jax.config import to_config_dict
from perceiver_jax.data import AudioDataConfig
from perceiver_jax.data.audio import MelConfig
from perceiver_jax.models import MeanPoolDecoderConfig, PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import Classification

BATCH_SIZE = 512
STEPS_PER_EPOCH = 1_700_000 / BATCH_SIZE
ENCODER: dict[str, Any] = {
    "num_cross_attention_heads": 1,
    "num_cross_attention_layers": 2,
    "num_self_attention_heads": 8,
    "num_self_attention_layers_per_block": 8,
    "num_self_attention_blocks": 2,
    "first_self_attention_block_shared": False,
    "num_frequency_bands": 64,
}


def get_config(variant: str | None = None):
    """The run on waveforms; variant `mel`, and `smoke`, a small one on synthetic sounds."""
    smoke = is_smoke(variant, "mel")
    mel = variant == "mel"
    encoder: ModalityConfig = WaveformConfig(num_cross_attention_qk_channels=257, **ENCODER)
    if mel:
        encoder = SpectrogramConfig(num_cross_attention_qk_channels=259, **ENCODER)
    config = ExperimentConfig(
        task=Classification(),
        model=PerceiverConfig(
            encoder=encoder,
            decoder=MeanPoolDecoderConfig(num_classes=527),
            num_latents=512,
            num_latent_channels=1024,
        ),
        data=AudioDataConfig(
            dataset="audioset",
            eval_split="eval",
            batch_size=BATCH_SIZE,
            eval_batch_size=32,
            num_eval_views=16,
            representation="mel" if mel else "waveform",
            mel=MelConfig(num_time_masks=2, num_frequency_masks=2),
            mean=-8.0 if mel else 0.0,
            std=4.0 if mel else 1.0,
        ),
        optimizer=OptimizerConfig(
            name="lamb",
            learning_rate=4e-3,
            schedule="constant_cosine",
            weight_decay=0.1,
            no_decay=(r"bias$", r"norm/scale$"),
            epsilon=1e-6,
            clip_norm=10.0,
        ),
        num_steps=round(100 * STEPS_PER_EPOCH),
        log_every=100,
        eval_every=round(STEPS_PER_EPOCH),
        checkpoint=CheckpointConfig(
            every=round(STEPS_PER_EPOCH), best_metric="mean_average_precision"
        ),
    )
    return to_config_dict(_small(config) if smoke else config)


def _small(config: ExperimentConfig) -> ExperimentConfig:
    """Three steps of the same kind of model on sounds of 1,280 samples."""
    encoder = dataclasses.replace(
        config.model.encoder,
        num_samples=1280,
        num_frequency_bands=4,
        num_cross_attention_qk_channels=None,
        num_self_attention_heads=4,
        num_self_attention_layers_per_block=1,
    )
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model, encoder=encoder, num_latents=8, num_latent_channels=32
        ),
        data=dataclasses.replace(
            config.data,
            dataset="synthetic",
            eval_split="test",
            sample_rate=16_000,
            num_samples=1280,
            num_eval_views=3,
            batch_size=4,
            eval_batch_size=4,
        ),
        num_steps=3,
        log_every=1,
        eval_every=3,
        checkpoint=dataclasses.replace(config.checkpoint, every=3),
    )
