"""The published masked language model of UTF-8 bytes: 201,108,230 parameters.

python -m perceiver_jax.train.main --config=configs/mlm_bytes.py --workdir=runs/mlm_bytes
python -m perceiver_jax.train.main --config=configs/mlm_bytes.py \
    --config.pretrained.source=deepmind:language_perceiver_io_bytes.pickle --workdir=runs/mlm_imdb
python -m perceiver_jax.train.main --config=configs/mlm_bytes.py:smoke

- Model: Perceiver IO tables 1 and 11. Its weights were trained by DeepMind on Wikipedia and C4; no
  such run is reproduced here.
- Known of the fine-tuning on IMDb (krasserm, examples/training/mlm): the 50,000 unlabelled reviews
  in rows of 2,048 bytes with [CLS] and [SEP], whole words masked anew at 15 %, dropout 0.1, batches
  of 64, AdamW at 1e-5, 1,000 steps of warm-up, then constant, 12 epochs; validation loss 1.165.
- Ours: no dropout in the decoder, the evaluation on the test split, the clipping of gradients, and
  max_predictions, which asks the decoder for the first 512 masked bytes of a row alone. From random
  values take a larger learning rate, 1e-4 for example, and far more steps.
- Reads IMDb prepared with TensorFlow Datasets; `smoke` takes three steps of a tiny model.
"""

import dataclasses
from typing import Any

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import PerceiverConfig, language_perceiver
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.initialisation import PretrainedConfig
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import MaskedLanguageModelling

BATCH_SIZE = 64
STEPS_PER_EPOCH = 500
"""66 million bytes in rows of 2,046 are about 32,000 rows."""


def get_config(variant: str | None = None):
    """The fine-tuning on IMDb; variant `smoke` takes three steps of a tiny model."""
    config = ExperimentConfig(
        task=MaskedLanguageModelling(
            max_predictions=512,
            predict_samples=("I have seen this [MASK][MASK][MASK][MASK] twice.",),
        ),
        model=language_perceiver(dropout=0.1, remat=True),
        data=TextDataConfig(
            dataset="tfds:imdb_reviews",
            train_split="unsupervised",
            batch_size=BATCH_SIZE,
            eval_batch_size=BATCH_SIZE,
            max_seq_len=2048,
            add_special_tokens=True,
            whole_words=True,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-5, warmup_steps=1000, no_decay=(), clip_norm=1.0
        ),
        num_steps=12 * STEPS_PER_EPOCH,
        log_every=50,
        eval_every=STEPS_PER_EPOCH,
        checkpoint=CheckpointConfig(every=STEPS_PER_EPOCH, best_metric="loss", best_mode="min"),
    )
    if is_smoke(variant):
        decoder = dataclasses.replace(
            config.model.decoder,
            max_seq_len=128,
            num_cross_attention_qk_channels=16,
            num_cross_attention_v_channels=16,
        )
        config = small(config, decoder)
    return to_config_dict(config)


def small(config: ExperimentConfig, decoder: Any) -> ExperimentConfig:
    """Three steps of the same kind of model, tiny and random, on synthetic sentences."""
    encoder = dataclasses.replace(
        config.model.encoder,
        max_seq_len=128,
        num_input_channels=16,
        num_cross_attention_qk_channels=16,
        num_cross_attention_v_channels=16,
        num_self_attention_qk_channels=16,
        num_self_attention_v_channels=16,
        num_self_attention_layers_per_block=2,
    )
    return dataclasses.replace(
        config,
        model=PerceiverConfig(
            encoder=encoder, decoder=decoder, num_latents=4, num_latent_channels=16
        ),
        data=dataclasses.replace(
            config.data,
            dataset="synthetic",
            train_split="train",
            max_seq_len=128,
            batch_size=8,
            eval_batch_size=128,
        ),
        pretrained=PretrainedConfig(),
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=0),
        num_steps=3,
        log_every=1,
    )
