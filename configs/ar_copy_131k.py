"""DeepMind's copy task at length 131,072: 223,976,707 parameters, 65,535 bytes said backwards.

python -m perceiver_jax.train.main --config=configs/ar_copy_131k.py --workdir=runs/ar_copy_131k

- Needs no data; rows are drawn. Published on TPUs, 4,096 rows a step, each with its last 1,024
  positions predicted: the checkpoint of step 25,000 says all of 8 rows' 65,535 bytes right; not
  reproduced here.
- On fewer devices a step is divided, with the same result: `--config.optimizer.accumulate=64`
  computes 64 rows at a time, over all devices.
- Differs: here the mirrored bytes alone count; the published loss counts whatever the latents of a
  beginning of a row predict, random bytes of its first half as well.
- `ar_copy_32.py` is the same task at a size that a CPU solves in a minute.
- Source: perceiver-ar `random_mirrored_131072`.
"""

from typing import Any

from perceiver_jax.config import to_config_dict
from perceiver_jax.data.copy_task import CopyTaskConfig
from perceiver_jax.models import ar_copy
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling

SMALL: dict[str, Any] = {
    "num_channels": 32,
    "num_heads": 4,
    "max_latents": 16,
    "num_self_attention_layers": 2,
}
"""Sizes of the model of a smoke run."""


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps of a small model on rows of 128."""
    smoke = is_smoke(variant)
    seq_len = 128 if smoke else 131_072
    model = ar_copy(seq_len, compute_dtype="bfloat16", **(SMALL if smoke else {}))
    batch_size = 4 if smoke else 4096
    num_predicted = batch_size * model.max_latents
    return to_config_dict(
        ExperimentConfig(
            task=CausalModelling(z_loss=1e-4),
            model=model,
            data=CopyTaskConfig(
                seq_len=seq_len,
                batch_size=batch_size,
                eval_batch_size=4 if smoke else 16,
                num_eval=4 if smoke else 16,
                random_min_seq_len=seq_len // 2,
            ),
            optimizer=OptimizerConfig(
                name="adam",
                learning_rate=3e-4,
                schedule="cosine",
                warmup_steps=0 if smoke else 1000,
                # The published loss is a sum over rows and latents; ours is their mean.
                clip_norm=1.0 / num_predicted,
                epsilon=1e-8 / num_predicted,
            ),
            num_steps=3 if smoke else 1_000_000,
            log_every=1 if smoke else 100,
            eval_every=1000,
            checkpoint=CheckpointConfig(every=1000, best_metric="loss", best_mode="min"),
        )
    )
