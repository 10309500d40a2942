"""The model of piano performances on MAESTRO v3: 28,531,712 parameters.

python -m perceiver_jax.train.main --config=configs/symbolic_audio_maestro.py --workdir=runs/sam

- Needs MAESTRO v3.0.0 unpacked in `data/maestro-v3.0.0`, with its `maestro-v3.0.0.csv`.
- Published recipe, two GPUs: twice 48 rows on each for an update. No score is published, and none
  was reproduced here.
- Source: krasserm/perceiver-io `examples/training/sam/maestrov3`.
"""

from typing import Any

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import MusicDataConfig
from perceiver_jax.models import symbolic_audio_maestro
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling

SMALL = {
    "max_seq_len": 128,
    "max_latents": 32,
    "num_channels": 32,
    "num_self_attention_layers": 2,
}
"""Sizes of the model of a smoke run."""


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps of a small model on synthetic tunes."""
    smoke = is_smoke(variant)
    model = symbolic_audio_maestro(**(SMALL if smoke else {}))
    return to_config_dict(
        experiment(
            model,
            smoke=smoke,
            dataset="maestro:data/maestro-v3.0.0",
            batch_size=192,
        )
    )


def experiment(
    model: Any, *, smoke: bool, dataset: str, batch_size: int, min_seq_len: int | None = None
) -> ExperimentConfig:
    """The recipe of both published models; a smoke run takes three steps on synthetic tunes."""
    return ExperimentConfig(
        task=CausalModelling(predict_tokens=16 if smoke else 1024),
        model=model,
        data=MusicDataConfig(
            dataset="synthetic" if smoke else dataset,
            eval_split="test" if smoke else "validation",
            batch_size=4 if smoke else batch_size,
            eval_batch_size=4 if smoke else 16,
            max_seq_len=model.max_seq_len,
            min_seq_len=None if smoke else min_seq_len,
            every_velocity=True,
        ),
        optimizer=OptimizerConfig(
            learning_rate=2e-4,
            schedule="cosine",
            warmup_steps=0 if smoke else 200,
            weight_decay=0.01,
            no_decay=(),
            clip_norm=0.5,
            accumulate=2,
        ),
        num_steps=3 if smoke else 20_000,
        log_every=1 if smoke else 100,
        eval_every=1000,
        checkpoint=CheckpointConfig(every=1000, best_metric="loss", best_mode="min"),
    )
