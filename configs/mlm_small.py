"""A small masked language model of film reviews: the first of the three steps to a classifier.

python -m perceiver_jax.data.text.movie_snippets
python -m perceiver_jax.data.text.train_tokenizer --dataset=movie_snippets --lowercase \
    --out=runs/movie_snippets/tokenizer.json
python -m perceiver_jax.train.main --config=configs/mlm_small.py --workdir=runs/mlm

- The first line fetches the sentences, the second trains a tokenizer on the training split; both
  once. `configs/text_classifier.py` goes on from here.
- Four minutes of one core, and about 10 % of the masked tokens right: so little text (8,589
  sentences) teaches a model what is frequent, and not much more.
"""

from typing import Any

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import TextDataConfig
from perceiver_jax.models import PerceiverConfig, TextDecoderConfig, TextEncoderConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import MaskedLanguageModelling

TOKENIZER = "runs/movie_snippets/tokenizer.json"
MAX_SEQ_LEN = 48
LAYERS: dict[str, Any] = {"num_cross_attention_heads": 4, "init_scale": 0.05}


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps on the bytes of synthetic sentences."""
    smoke = is_smoke(variant)
    model = get_model(
        TextDecoderConfig(
            vocab_size=get_vocab_size(smoke=smoke), max_seq_len=MAX_SEQ_LEN, dropout=0.1, **LAYERS
        ),
        smoke=smoke,
        dropout=0.1,
    )
    return to_config_dict(
        ExperimentConfig(
            task=MaskedLanguageModelling(
                max_predictions=8, predict_samples=("one of the [MASK] films of the year .",)
            ),
            model=model,
            data=get_data(smoke=smoke, mask_fraction=0.2, whole_words=True),
            optimizer=get_optimizer(
                learning_rate=3e-3, warmup_steps=0 if smoke else 200, weight_decay=0.05
            ),
            num_steps=3 if smoke else 3000,
            log_every=1 if smoke else 50,
            eval_every=1000,
            checkpoint=CheckpointConfig(every=1000, best_metric="loss", best_mode="min"),
        )
    )


def get_vocab_size(*, smoke: bool) -> int:
    """Tokens of the tokenizer, or those of bytes."""
    return 262 if smoke else 4096


def get_model(decoder: Any, *, smoke: bool, **fields: Any) -> PerceiverConfig:
    """A decoder on the encoder that all three steps have; its dropout rates may differ."""
    return PerceiverConfig(
        encoder=TextEncoderConfig(
            vocab_size=get_vocab_size(smoke=smoke),
            max_seq_len=MAX_SEQ_LEN,
            num_input_channels=64,
            num_self_attention_heads=4,
            num_self_attention_layers_per_block=1,
            latent_init_scale=1.0,
            **LAYERS,
            **fields,
        ),
        decoder=decoder,
        num_latents=16,
        num_latent_channels=64,
    )


def get_data(*, smoke: bool, **fields: Any) -> TextDataConfig:
    """One sentence to a row."""
    return TextDataConfig(
        dataset="synthetic" if smoke else "movie_snippets",
        tokenizer="bytes" if smoke else TOKENIZER,
        batch_size=8 if smoke else 64,
        max_seq_len=MAX_SEQ_LEN,
        layout="documents",
        **fields,
    )


def get_optimizer(**fields: Any) -> OptimizerConfig:
    """AdamW on a cosine."""
    return OptimizerConfig(
        schedule="cosine",
        b2=0.98,
        no_decay=(r"bias$", r"norm/scale$", r"latents$", r"queries$"),
        clip_norm=1.0,
        **fields,
    )
