"""Perceiver IO on JapaneseVowels: who of nine men says two vowels, in 12 channels of 7 to 29 steps.

python -m perceiver_jax.train.main --config=configs/japanese_vowels.py
python -m perceiver_jax.train.main --config=configs/japanese_vowels.py:irregular

- 270 series to train on, 370 held out; `python -m perceiver_jax.data.time_series.packaged` fetches
  them once. `irregular` has a random half of the steps of each, so that times are irregular.
- 96,691 parameters, 40 CPU-seconds on 2 cores. Held-out accuracy, median of seeds 0, 1, 2: 98.6 %,
  and 97.8 % of `irregular`; logistic regression on means and deviations has 98.4 % and 97.6 %.
- `smoke` takes three steps on synthetic waves.
"""

import dataclasses

from perceiver_jax.adapters import TimeSeriesConfig
from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TimeSeriesDataConfig
from perceiver_jax.data.time_series.synthetic import CLASS_NAMES, NUM_CHANNELS
from perceiver_jax.models import ClassificationDecoderConfig, PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import Classification


def get_config(variant: str | None = None):
    """The run; `irregular` keeps half of the steps, and `smoke` takes three steps."""
    smoke = is_smoke(variant, "irregular")
    config = ExperimentConfig(
        task=Classification(label_smoothing=0.1),
        model=PerceiverConfig(
            encoder=TimeSeriesConfig(
                num_channels=12,
                duration=28.0,
                num_frequency_bands=4,
                max_resolution=28.0,
                num_cross_attention_heads=4,
                num_cross_attention_qk_channels=64,
                num_self_attention_heads=4,
                num_self_attention_layers_per_block=2,
                dropout=0.1,
                init_method="variance_scaling",
                latent_init_scale=1.0,
            ),
            decoder=ClassificationDecoderConfig(
                num_classes=9,
                num_output_query_channels=64,
                num_cross_attention_heads=4,
                init_method="variance_scaling",
            ),
            num_latents=8,
            num_latent_channels=64,
        ),
        data=TimeSeriesDataConfig(
            dataset="japanese_vowels",
            max_length=29,
            batch_size=54,
            eval_batch_size=74,
            keep_fraction=0.5 if variant == "irregular" else 1.0,
            value_noise=0.1,
            time_jitter=0.0,
            time_stretch=0.1,
        ),
        optimizer=OptimizerConfig(
            learning_rate=2e-3,
            schedule="cosine",
            warmup_steps=60,
            weight_decay=0.1,
            no_decay=(r"bias$", r"norm/scale$", r"latents$", r"queries$"),
            clip_norm=1.0,
        ),
        num_steps=600,
        log_every=10,
        eval_every=200,
        checkpoint=CheckpointConfig(every=200),
    )
    return to_config_dict(_small(config) if smoke else config)


def _small(config: ExperimentConfig) -> ExperimentConfig:
    """Three steps of the same kind of model on waves of two channels; some values are missing."""
    encoder = dataclasses.replace(
        config.model.encoder, num_channels=NUM_CHANNELS, duration=30.0, missing_indicators=True
    )
    decoder = dataclasses.replace(config.model.decoder, num_classes=len(CLASS_NAMES))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, encoder=encoder, decoder=decoder),
        data=dataclasses.replace(config.data, dataset="synthetic", max_length=32),
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
        num_steps=3,
        log_every=1,
        eval_every=3,
        checkpoint=dataclasses.replace(config.checkpoint, every=3),
    )
