"""Runs on synthetic sentences that are as small as can be."""

import dataclasses

from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
)
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import MaskedLanguageModelling, TextClassification

HEADS = {"num_cross_attention_heads": 2, "init_scale": 0.1}
TEXTS = {"vocab_size": 262, "max_seq_len": 80}


def language_model(folder, *, task=None, data=None, **changes) -> ExperimentConfig:
    """Four steps of masked language modelling; rows are kept in the folder."""
    return _experiment(
        folder,
        MaskedLanguageModelling(**(task or {})),
        TextDecoderConfig(**TEXTS, **HEADS),
        data or {},
        **changes,
    )


def classifier(folder, *, task=None, data=None, **changes) -> ExperimentConfig:
    """Four steps of telling good from bad news."""
    decoder = ClassificationDecoderConfig(num_classes=2, num_output_query_channels=8, **HEADS)
    task = TextClassification(**(task or {}))
    return _experiment(folder, task, decoder, {"layout": "documents"} | (data or {}), **changes)


def _experiment(folder, task, decoder, data, **changes) -> ExperimentConfig:
    best = {"best_metric": "loss", "best_mode": "min"}
    config = ExperimentConfig(
        task=task,
        model=PerceiverConfig(
            encoder=TextEncoderConfig(
                num_input_channels=8,
                num_self_attention_heads=2,
                num_self_attention_layers_per_block=1,
                **TEXTS,
                **HEADS,
            ),
            decoder=decoder,
            num_latents=4,
            num_latent_channels=8,
        ),
        data=TextDataConfig(
            **{
                "dataset": "synthetic",
                "cache_dir": str(folder),
                "batch_size": 8,
                "eval_batch_size": 64,
                "max_seq_len": 80,
            }
            | data
        ),
        optimizer=OptimizerConfig(learning_rate=0.01),
        num_steps=4,
        log_every=1,
        eval_every=4,
        checkpoint=CheckpointConfig(every=4, **best),
    )
    return dataclasses.replace(config, **changes)
