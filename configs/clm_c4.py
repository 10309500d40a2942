"""The causal language model of 32,000 subwords on C4: 453,950,720 parameters.

python -m perceiver_jax.train.main --config=configs/clm_c4.py --workdir=runs/clm_c4

- Needs `c4-train.*.json.gz` and `c4-validation.*.json.gz` of C4 in `data/c4`; the training split is
  read as a stream. The tokenizer comes from Hugging Face's hub, once.
- Published recipe, eight GPUs with 256 rows each: validation loss 2.820; not reproduced here. Ours:
  weight decay leaves biases and norms alone (--config.optimizer.no_decay="()" for theirs).
- Source: krasserm/perceiver-io `examples/training/clm`, model 2.
"""

from typing import Any

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import causal_subwords
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling

SMALL: dict[str, Any] = {
    "vocab_size": 262,
    "max_seq_len": 128,
    "max_latents": 32,
    "num_channels": 40,
    "num_self_attention_layers": 2,
}
"""Sizes of the model of a smoke run."""


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps of a small model on the bytes of sentences."""
    smoke = is_smoke(variant)
    return to_config_dict(
        ExperimentConfig(
            task=CausalModelling(
                predict_samples=("A man was reading a book on a sunny day until he sudden",),
                predict_tokens=16 if smoke else 512,
            ),
            model=causal_subwords(compute_dtype="bfloat16", **(SMALL if smoke else {})),
            data=get_data(smoke=smoke),
            optimizer=OptimizerConfig(
                learning_rate=3e-4,
                schedule="cosine",
                final_fraction=0.1,
                warmup_steps=0 if smoke else 1000,
                clip_norm=1.0,
            ),
            num_steps=3 if smoke else 50_000,
            log_every=1 if smoke else 100,
            eval_every=1000,
            checkpoint=CheckpointConfig(every=1000, best_metric="loss", best_mode="min"),
        )
    )


def get_data(*, smoke: bool) -> TextDataConfig:
    """Rows of 512 to 1,024 tokens, documents joined by the tokenizer's end of a text."""
    if smoke:
        return TextDataConfig(dataset="synthetic", batch_size=4, eval_batch_size=4, max_seq_len=128)
    return TextDataConfig(
        dataset="files:data/c4",
        train_split="c4-train",
        eval_split="c4-validation",
        tokenizer="xlnet-base-cased",
        stream=True,
        separator="eos",
        batch_size=2048,
        eval_batch_size=256,
        max_seq_len=1024,
        random_min_seq_len=512,
    )
