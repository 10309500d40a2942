"""The copy task at length 32: a model that says 15 random bytes backwards, all of them right.

python -m perceiver_jax.train.main --config=configs/ar_copy_32.py --workdir=runs/ar_copy_32

- One minute on two cores; all 15,360 held-out mirrored bytes are right from step 250 on.
- The bytes are random, so only attention over what was read can know them: a first thing to run
  when anything autoregressive was changed.
- Source: perceiver-ar `random_mirrored_32`, whose model has 26.8M parameters; this one is small.
"""

from perceiver_jax.config import to_config_dict
from perceiver_jax.data.copy_task import CopyTaskConfig
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps."""
    smoke = is_smoke(variant)
    return to_config_dict(
        ExperimentConfig(
            task=CausalModelling(),
            model=CausalSequenceConfig(
                vocab_size=259,
                max_seq_len=32,
                max_latents=16,
                num_channels=128,
                num_heads=4,
                num_self_attention_layers=1,
                cross_attention_dropout=0.0,
                output_norm=True,
            ),
            data=CopyTaskConfig(batch_size=8 if smoke else 128, num_eval=16 if smoke else 1024),
            optimizer=OptimizerConfig(
                learning_rate=2e-3,
                schedule="cosine",
                warmup_steps=0 if smoke else 100,
                clip_norm=1.0,
            ),
            num_steps=3 if smoke else 500,
            log_every=1 if smoke else 50,
            eval_every=250,
            checkpoint=CheckpointConfig(every=250, best_metric="loss", best_mode="min"),
        )
    )
