"""IMDb reviews, negative or positive, classified from UTF-8 bytes: 200,587,010 parameters.

python -m perceiver_jax.train.main --config=configs/text_classifier_imdb.py \
    --config.pretrained.source=runs/mlm_imdb --workdir=runs/imdb_frozen
python -m perceiver_jax.train.main --config=configs/text_classifier_imdb.py:finetune \
    --config.pretrained.source=runs/imdb_frozen --workdir=runs/imdb
python -m perceiver_jax.train.main --config=configs/text_classifier_imdb.py:smoke

- The first command freezes the encoder of `configs/mlm_bytes.py` and trains a new decoder on it,
  the second goes on from there and trains everything.
- Optimizer, schedule and batches of 256 as krasserm has them (examples/training/txt_clf), who
  publishes accuracies of 91.5 and 94.3; not reproduced here.
- Reads IMDb prepared with TensorFlow Datasets; `smoke` takes three steps of a tiny model.
"""

import dataclasses

from configs.mlm_bytes import small
from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    language_perceiver,
)
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.initialisation import PretrainedConfig
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import TextClassification

FINETUNE = "finetune"
FORMER = {
    FINETUNE: PretrainedConfig(source="runs/imdb_frozen"),
    None: PretrainedConfig(source="runs/mlm_imdb", part="encoder"),
}
"""Where a variant starts, if nothing else is given."""
BATCH_SIZE = 256
STEPS_PER_EPOCH = 25_000 // BATCH_SIZE


def get_config(variant: str | None = None):
    """The run with a frozen encoder; variant `finetune` trains all, `smoke` takes three steps."""
    smoke, finetune = is_smoke(variant, FINETUNE), variant == FINETUNE
    config = ExperimentConfig(
        task=TextClassification(),
        model=dataclasses.replace(
            language_perceiver(dropout=0.1, remat=True) if finetune else language_perceiver(),
            decoder=ClassificationDecoderConfig(
                num_classes=2,
                num_output_query_channels=768,
                num_cross_attention_heads=1,
                dropout=0.1,
            ),
        ),
        data=TextDataConfig(
            dataset="tfds:imdb_reviews",
            batch_size=BATCH_SIZE,
            max_seq_len=2048,
            layout="documents",
            add_special_tokens=True,
        ),
        pretrained=FORMER[None if smoke else variant],
        optimizer=OptimizerConfig(
            learning_rate=5e-6 if finetune else 1e-3,
            warmup_steps=100,
            no_decay=(),
            frozen=() if finetune else (r"^encoder/",),
        ),
        num_steps=(10 if finetune else 12) * STEPS_PER_EPOCH,
        log_every=10,
        eval_every=STEPS_PER_EPOCH,
        checkpoint=CheckpointConfig(every=STEPS_PER_EPOCH),
    )
    if smoke:
        config = small(
            config, dataclasses.replace(config.model.decoder, num_output_query_channels=16)
        )
    return to_config_dict(config)
