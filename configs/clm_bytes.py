"""The causal language model of UTF-8 bytes on WikiText-103: 30,563,078 parameters.

python -m perceiver_jax.train.main --config=configs/clm_bytes.py --workdir=runs/clm_bytes

- Needs `wiki.train.raw`, `wiki.valid.raw` and `wiki.test.raw` in `data/wikitext-103-raw`.
- Published recipe, two GPUs; no score is published, and none was reproduced here.
- Source: krasserm/perceiver-io `examples/training/clm`, model 1.
"""

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import causal_bytes
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps of a small model on synthetic sentences."""
    smoke = is_smoke(variant)
    small = {"max_seq_len": 128, "max_latents": 32, "num_channels": 32} if smoke else {}
    return to_config_dict(
        ExperimentConfig(
            task=CausalModelling(
                predict_samples=("A man was reading a book on a sunny day until he sudden",),
                predict_tokens=16 if smoke else 512,
            ),
            model=causal_bytes(**small),
            data=TextDataConfig(
                dataset="synthetic" if smoke else "files:data/wikitext-103-raw",
                eval_split="test" if smoke else "validation",
                batch_size=4 if smoke else 96,
                eval_batch_size=4 if smoke else 48,
                max_seq_len=128 if smoke else 4096,
                random_shift=True,
            ),
            optimizer=OptimizerConfig(
                name="adam",
                learning_rate=2e-4,
                schedule="cosine",
                warmup_steps=0 if smoke else 200,
                clip_norm=0.5,
                accumulate=1 if smoke else 2,
            ),
            num_steps=3 if smoke else 20_000,
            log_every=1 if smoke else 100,
            eval_every=1000,
            checkpoint=CheckpointConfig(every=1000, best_metric="loss", best_mode="min"),
        )
    )
