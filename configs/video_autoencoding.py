r"""Perceiver IO as an autoencoder of video, sound and label: 19,858,855 parameters.

python -m perceiver_jax.train.main --config=configs/video_autoencoding.py \
    --config.data.data_dir=/path/to/kinetics700 --workdir=runs/video_autoencoding
python -m perceiver_jax.train.main --config=configs/video_autoencoding.py:smoke

- Reads folders of video files, one for each class of Kinetics-700: DIR/train/CLASS/*.mp4 and
  DIR/val/CLASS/*.mp4. `smoke` takes three steps of a small model on moving shapes.
- The model is the published one, with 784 latents (88 times fewer numbers than a clip has). There
  is no published training code: weights of the losses, batch and rate are those of Perceiver IO
  appendix I; warm-up and steps are assumed. There half of the labels are hidden, as all are here
  and in the released model.
- Published for this bottleneck: 24.37 dB of the image, 26.97 dB of the sound, 10.2 % top-1
  (Perceiver IO table 4), not reproduced here.
"""

import dataclasses

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import VideoDataConfig
from perceiver_jax.models import video_perceiver
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import VideoAutoencoding

BATCH_SIZE = 1024
NUM_STEPS = 200_000


def get_config(variant: str | None = None):
    """The run; variant `smoke` is a small one on synthetic clips."""
    config = ExperimentConfig(
        # As many as DeepMind's decoding takes at once, of 128 chunks: 6,272 and 15.
        task=VideoAutoencoding(num_image_queries=6272, num_audio_queries=480),
        model=video_perceiver(),
        data=VideoDataConfig(
            dataset="folder",
            eval_split="val",
            batch_size=BATCH_SIZE,
            eval_batch_size=64,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=5_000,
            weight_decay=0.0,
            no_decay=(),
            clip_norm=1.0,
        ),
        num_steps=NUM_STEPS,
        log_every=100,
        eval_every=5_000,
        checkpoint=CheckpointConfig(every=5_000, best_metric="loss", best_mode="min"),
    )
    return to_config_dict(_small(config) if is_smoke(variant) else config)


def _small(config: ExperimentConfig) -> ExperimentConfig:
    """Three steps of the same kind of model on clips of 4 frames of 16×16."""
    encoder = dataclasses.replace(
        config.model.encoder,
        video_shape=(4, 16, 16, 3),
        num_video_frequency_bands=4,
        num_samples=1280,
        num_audio_frequency_bands=4,
        num_classes=4,
        num_self_attention_heads=4,
        num_self_attention_layers_per_block=2,
    )
    decoder = dataclasses.replace(
        config.model.decoder,
        num_label_query_channels=32,
        num_output_channels=32,
        num_cross_attention_qk_channels=32,
        num_cross_attention_v_channels=32,
    )
    return dataclasses.replace(
        config,
        task=dataclasses.replace(config.task, num_image_queries=128, num_audio_queries=20),
        model=dataclasses.replace(
            config.model, encoder=encoder, decoder=decoder, num_latents=16, num_latent_channels=32
        ),
        data=dataclasses.replace(
            config.data,
            dataset="synthetic",
            eval_split="test",
            num_frames=4,
            frame_rate=25.0,
            image_size=(16, 16),
            num_samples=1280,
            sample_rate=8_000,
            num_classes=4,
            batch_size=2,
            eval_batch_size=2,
        ),
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
        num_steps=3,
        log_every=1,
        eval_every=3,
        checkpoint=dataclasses.replace(config.checkpoint, every=3),
    )
