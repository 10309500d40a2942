"""Perceiver IO on ImageNet, configuration A with Fourier features: 48,440,627 parameters.

python -m perceiver_jax.train.main --config=configs/imagenet_a.py --workdir=runs/imagenet_a
python -m perceiver_jax.train.main --config=configs/imagenet_a.py:smoke

- Reads ImageNet as `python -m perceiver_jax.data.imagenet` prepares it; `smoke` takes three steps
  of a small model on synthetic images. See docs/imagenet.md.
- The recipe is the published one (Perceiver IO appendix A.1; deepmind ImageNet training):
  optimizer, schedule, Inception crops, mirroring, RandAugment, MixUp and CutMix, label smoothing.
  It was published for this model, the one with Fourier features.
- Hardware: planned for eight H200 or more, in bfloat16 (add
  --config.model.encoder.compute_dtype=bfloat16 --config.model.decoder.compute_dtype=bfloat16
  --config.model.encoder.remat=dots). The 137,625 steps are 5.8 hours there with all products at
  peak (`python -m perceiver_jax.train.plan`), so about twice as long; no run was timed.
- Published top-1 accuracy 79.0 (Perceiver IO table 7), not reproduced here.
"""

import dataclasses

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import ImageDataConfig
from perceiver_jax.models import PerceiverConfig, imagenet_fourier
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import ImageClassification

BATCH_SIZE = 1024
STEPS_PER_EPOCH = 1_281_167 / BATCH_SIZE


def get_config(variant: str | None = None):
    """The run; variant `smoke` is a small one on synthetic images."""
    return to_config_dict(experiment(imagenet_fourier(), smoke=is_smoke(variant)))


def experiment(model: PerceiverConfig, *, smoke: bool) -> ExperimentConfig:
    """The published recipe for an ImageNet model."""
    config = ExperimentConfig(
        task=ImageClassification(label_smoothing=0.1),
        model=model,
        data=ImageDataConfig(
            dataset="tfds:imagenet2012",
            eval_split="validation",
            batch_size=BATCH_SIZE,
            eval_batch_size=BATCH_SIZE,
            image_size=(224, 224),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            resampling="bicubic",
            random_flip=True,
            rand_augment_layers=4,
            rand_augment_magnitude=5.0,
            mixing="mixup_cutmix",
            mixup_alpha=0.2,
        ),
        optimizer=OptimizerConfig(
            name="lamb",
            learning_rate=5e-4 * BATCH_SIZE / 256,
            schedule="constant_cosine",
            weight_decay=0.1,
            no_decay=(r"bias$", r"norm/scale$"),
            epsilon=1e-6,
            clip_norm=10.0,
        ),
        num_steps=round(110 * STEPS_PER_EPOCH),
        log_every=100,
        eval_every=round(STEPS_PER_EPOCH),
        checkpoint=CheckpointConfig(every=round(STEPS_PER_EPOCH)),
    )
    return _small(config) if smoke else config


def _small(config: ExperimentConfig) -> ExperimentConfig:
    """Three steps of the same kind of model on 32×32 synthetic images."""
    encoder = dataclasses.replace(
        config.model.encoder,
        image_shape=(32, 32, 3),
        num_self_attention_layers_per_block=2,
        num_self_attention_blocks=2,
    )
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            encoder=encoder,
            decoder=dataclasses.replace(config.model.decoder, num_output_query_channels=64),
            num_latents=32,
            num_latent_channels=64,
        ),
        data=dataclasses.replace(
            config.data,
            dataset="synthetic",
            synthetic_shape=(40, 48, 3),
            synthetic_classes=1000,
            image_size=(32, 32),
            batch_size=8,
            eval_batch_size=8,
        ),
        num_steps=3,
        log_every=1,
        eval_every=3,
        checkpoint=dataclasses.replace(config.checkpoint, every=3),
    )
