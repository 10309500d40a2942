"""Runs on synthetic tunes that are as small as can be."""

import dataclasses

from perceiver_jax.data import MusicDataConfig
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling


def music_model(folder, *, task=None, data=None, **changes) -> ExperimentConfig:
    """Four steps of predicting the next event; prepared events are kept in the folder."""
    config = ExperimentConfig(
        task=CausalModelling(**({"predict_prompt": 30, "predict_tokens": 40} | (task or {}))),
        model=CausalSequenceConfig(
            vocab_size=389,
            max_seq_len=32,
            max_latents=16,
            num_channels=16,
            num_heads=2,
            num_self_attention_layers=1,
            output_norm=True,
            init_scale=0.1,
        ),
        data=MusicDataConfig(
            **{
                "dataset": "synthetic",
                "cache_dir": str(folder),
                "batch_size": 8,
                "eval_batch_size": 48,
                "max_seq_len": 30,
            }
            | (data or {})
        ),
        optimizer=OptimizerConfig(learning_rate=0.01),
        num_steps=4,
        log_every=1,
        eval_every=4,
        checkpoint=CheckpointConfig(every=4, best_metric="loss", best_mode="min"),
    )
    return dataclasses.replace(config, **changes)
