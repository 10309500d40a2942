"""A small causal language model of bytes on Python's own documentation: real English, in minutes.

python -m perceiver_jax.train.main --config=configs/clm_small.py --workdir=runs/clm
python -m perceiver_jax.run generate-text --source=runs/clm "A class is" --num-latents=64 --top-k=10

- `python -m benchmarks.text_baselines` prints what counting pairs of bytes and compression reach on
  the same split.
"""

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps on synthetic sentences."""
    smoke = is_smoke(variant)
    return to_config_dict(
        ExperimentConfig(
            task=CausalModelling(
                predict_samples=("A class is ", "The for statement "),
                predict_tokens=16 if smoke else 200,
            ),
            model=CausalSequenceConfig(
                max_seq_len=256,
                max_latents=128,
                num_channels=160,
                num_heads=5,
                num_self_attention_layers=2,
                cross_attention_dropout=0.0,
                residual_dropout=0.05,
                output_norm=True,
            ),
            data=TextDataConfig(
                dataset="synthetic" if smoke else "python_docs",
                batch_size=4 if smoke else 16,
                eval_batch_size=16,
                max_seq_len=64 if smoke else 256,
                random_shift=True,
            ),
            optimizer=OptimizerConfig(
                learning_rate=2e-3,
                schedule="cosine",
                warmup_steps=0 if smoke else 100,
                b2=0.98,
                weight_decay=0.05,
                clip_norm=1.0,
                no_decay=(r"bias$", r"norm/scale$", r"embedding$"),
            ),
            num_steps=3 if smoke else 2000,
            log_every=1 if smoke else 50,
            eval_every=500,
            checkpoint=CheckpointConfig(every=500, best_metric="loss", best_mode="min"),
        )
    )
