"""A small masked language model of film reviews: the first step of the text recipe.

python -m perceiver_jax.train.main --config=configs/mlm_small.py --workdir=runs/mlm

- The sentences are fetched once with `python -m perceiver_jax.data.text.movie_snippets`.
- `configs/text_classifier.py` goes on from here.
"""

from typing import Any

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import PerceiverConfig, TextDecoderConfig, TextEncoderConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import MaskedLanguageModelling

LAYERS: dict[str, Any] = {"num_cross_attention_heads": 4, "init_scale": 0.05}


def get_encoder(**fields: Any) -> TextEncoderConfig:
    """The encoder, which `configs/text_classifier.py` has as well."""
    return TextEncoderConfig(
        vocab_size=262,
        max_seq_len=256,
        num_input_channels=64,
        num_self_attention_heads=4,
        num_self_attention_layers_per_block=1,
        latent_init_scale=1.0,
        **LAYERS,
        **fields,
    )


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps on synthetic sentences."""
    smoke = is_smoke(variant)
    return to_config_dict(
        ExperimentConfig(
            task=MaskedLanguageModelling(
                max_predictions=64,
                predict_samples=("a very [MASK][MASK][MASK][MASK] film",),
            ),
            model=PerceiverConfig(
                encoder=get_encoder(dropout=0.1),
                decoder=TextDecoderConfig(vocab_size=262, max_seq_len=256, **LAYERS),
                num_latents=8,
                num_latent_channels=64,
            ),
            data=TextDataConfig(
                dataset="synthetic" if smoke else "movie_snippets",
                batch_size=8 if smoke else 64,
                max_seq_len=256,
                layout="packed",
                whole_words=True,
            ),
            optimizer=OptimizerConfig(
                learning_rate=2e-3,
                schedule="cosine",
                warmup_steps=0 if smoke else 200,
                weight_decay=0.05,
                b2=0.98,
                clip_norm=1.0,
            ),
            num_steps=3 if smoke else 3000,
            log_every=1 if smoke else 50,
            eval_every=500,
            checkpoint=CheckpointConfig(every=500, best_metric="loss", best_mode="min"),
        )
    )
