"""The whole image as one token: the MNIST classifier built on lucidrains' PerceiverIO.

python -m perceiver_jax.train.main --config=configs/mnist_image_token.py
python -m perceiver_jax.train.main --config=configs/mnist_image_token.py:smoke

- 28,731,338 parameters. With a single input token the encoder's softmax is always 1, so its query
  and key projections never learn: the model is an MLP followed by a latent transformer.
- Squared error between logits and one-hot labels, Adam, rate times 0.9 after each epoch, 50 epochs.
- The original reports 98 % and a squared error of 0.002 after 50 epochs, measured on 1,000 random
  test images; here the whole test split counts. Not reproduced here.
- `smoke` takes three steps of a small model on synthetic images.
"""

import dataclasses

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import ImageDataConfig
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import ImageClassification

STEPS_PER_EPOCH = 938


def get_config(variant: str | None = None):
    """The run; variant `smoke` is a small one on synthetic images."""
    lucidrains = {"activation": "geglu", "qkv_bias": False, "init_method": "uniform"}
    config = ExperimentConfig(
        task=ImageClassification(loss_function="mean_squared_error", num_shown=8),
        model=PerceiverConfig(
            encoder=ImageEncoderConfig(
                image_shape=(28, 28, 1),
                preprocessing="patches",
                patch_size=28,
                num_frequency_bands=0,
                num_cross_attention_heads=1,
                num_cross_attention_qk_channels=64,
                cross_attention_widening_factor=4,
                num_self_attention_heads=8,
                num_self_attention_qk_channels=512,
                num_self_attention_layers_per_block=6,
                self_attention_widening_factor=4,
                **lucidrains,
            ),
            decoder=ClassificationDecoderConfig(
                num_classes=10,
                num_output_query_channels=32,
                output_queries="zeros",
                num_cross_attention_heads=1,
                num_cross_attention_qk_channels=64,
                cross_attention_residual=False,
                cross_attention_mlp=False,
                **lucidrains,
            ),
            num_latents=256,
            num_latent_channels=512,
        ),
        data=ImageDataConfig(
            dataset="tfds:mnist", batch_size=64, eval_batch_size=500, mean=(0.1307,), std=(0.3081,)
        ),
        optimizer=OptimizerConfig(
            name="adam",
            learning_rate=1e-4,
            schedule="step",
            decay_rate=0.9,
            decay_steps=STEPS_PER_EPOCH,
        ),
        num_steps=50 * STEPS_PER_EPOCH,
        log_every=10,
        eval_every=STEPS_PER_EPOCH,
        checkpoint=CheckpointConfig(every=STEPS_PER_EPOCH),
    )
    return to_config_dict(_small(config) if is_smoke(variant) else config)


def _small(config: ExperimentConfig) -> ExperimentConfig:
    """Three steps of the same wiring with 16 latents of 128 channels, on synthetic images."""
    encoder = dataclasses.replace(
        config.model.encoder,
        num_self_attention_qk_channels=128,
        num_self_attention_layers_per_block=2,
    )
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model, encoder=encoder, num_latents=16, num_latent_channels=128
        ),
        data=dataclasses.replace(
            config.data,
            dataset="synthetic",
            synthetic_shape=(28, 28, 1),
            batch_size=8,
            eval_batch_size=16,
        ),
        num_steps=3,
        log_every=1,
    )
