"""Perceiver IO on the 8×8 digits of scikit-learn, pixel by pixel: a quick trial.

python -m perceiver_jax.train.main --config=configs/digits.py

- 1,437 digits to train on, 360 held out. So small a set is no contest: three nearest neighbours
  do as well.
"""

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import ImageDataConfig
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import ImageClassification


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps."""
    smoke = is_smoke(variant)
    return to_config_dict(
        ExperimentConfig(
            task=ImageClassification(label_smoothing=0.1),
            model=PerceiverConfig(
                encoder=ImageEncoderConfig(
                    image_shape=(8, 8, 1),
                    num_frequency_bands=6,
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
                num_latents=8,
                num_latent_channels=64,
            ),
            data=ImageDataConfig(dataset="digits", batch_size=64, eval_batch_size=120),
            optimizer=OptimizerConfig(
                learning_rate=3e-3,
                schedule="cosine",
                warmup_steps=0 if smoke else 60,
                weight_decay=0.1,
                no_decay=(r"bias$", r"norm/scale$", r"latents$", r"queries$"),
                clip_norm=1.0,
            ),
            num_steps=3 if smoke else 600,
            log_every=1 if smoke else 10,
            eval_every=200,
            checkpoint=CheckpointConfig(every=200),
        )
    )
