"""Sequences to what follows each token: cross-entropy, accuracy, bits per token."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from perceiver_jax.card import ModelCard
from perceiver_jax.config import setting
from perceiver_jax.data import Shard
from perceiver_jax.data.copy_task import CopyTaskConfig, copy_batches
from perceiver_jax.data.image_sequences import ImageSequenceDataConfig, image_sequence_batches
from perceiver_jax.data.marked_bytes import VOCAB_SIZE as MARKED_BYTES
from perceiver_jax.data.music import PAD_ID as MUSIC_PADDING
from perceiver_jax.data.music import VOCAB_SIZE as MUSIC_EVENTS
from perceiver_jax.data.music import MusicDataConfig, open_events
from perceiver_jax.data.music import causal_batches as music_batches
from perceiver_jax.data.pipeline import Batches
from perceiver_jax.data.text import TextDataConfig, causal_batches, open_tokenizer
from perceiver_jax.errors import UserError
from perceiver_jax.generate import generate
from perceiver_jax.models import CausalSequenceConfig, CausalSequenceModel
from perceiver_jax.sampling import Sampling
from perceiver_jax.train.losses import token_sums
from perceiver_jax.train.tasks.base import Media
from perceiver_jax.train.tasks.music import (
    music_preprocessing,
    shown_continuation,
)
from perceiver_jax.train.tasks.text import check_text, text_preprocessing, tokenizer_files
from perceiver_jax.typing import Array, Batch, Key, Model, Sums

BATCHES: Mapping[type, Any] = {
    TextDataConfig: causal_batches,
    MusicDataConfig: music_batches,
    CopyTaskConfig: copy_batches,
    ImageSequenceDataConfig: image_sequence_batches,
}
"""Which batches a dataset gives, by the type of its config."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalModelling:
    """Predict each token from those before it, at the last `max_latents` positions of a row."""

    label_smoothing: float = setting(
        0.0, "mass of a target spread over all other tokens in training, in [0, 1)"
    )
    z_loss: float = setting(
        0.0, "factor of the squared log of the softmax's normaliser, added to the training loss"
    )
    predict_samples: tuple[str, ...] = setting(
        (),
        "texts to continue; at every evaluation their continuations are shown in TensorBoard's "
        "text page and in the log",
    )
    predict_prompt: int = setting(
        128,
        "of music: events at the beginning of a held-out piece; at every evaluation what the model "
        "makes of it is shown in TensorBoard, as a picture and as sound",
    )
    predict_tokens: int = setting(128, "tokens of a continuation")
    predict_top_k: int = setting(10, "most probable tokens that they are drawn from")

    def __post_init__(self):
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing={self.label_smoothing} is not in [0, 1)")
        if not self.z_loss >= 0.0:
            raise ValueError(f"z_loss={self.z_loss} must be 0 or more")
        for name in ("predict_prompt", "predict_tokens", "predict_top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if not all(self.predict_samples):
            raise ValueError("predict_samples has an empty text; give at least a character")

    def check(self, model: Any, data: Any) -> None:
        """See `Task`."""
        if not isinstance(model, CausalSequenceConfig) or type(data) not in BATCHES:
            known = ", ".join(cls.__name__ for cls in BATCHES)
            raise UserError(
                f"causal modelling takes a CausalSequenceConfig and one of {known}, not "
                f"{type(model).__name__} and {type(data).__name__}; choose these in the config file"
            )
        if len(model.position_shape or (0,)) > 1 and not isinstance(data, ImageSequenceDataConfig):
            raise UserError(
                f"position_shape={model.position_shape} takes several positions of a token, which "
                "images alone have; set --config.model.position_shape=None"
            )
        if not isinstance(data, TextDataConfig):
            if isinstance(data, MusicDataConfig):
                _check_sizes(model, MUSIC_EVENTS, data.max_seq_len)
            elif isinstance(data, CopyTaskConfig):
                _check_sizes(model, MARKED_BYTES, data.seq_len - 1)
            else:
                _check_sizes(model, MARKED_BYTES, data.max_seq_len)
                _check_positions(model, data)
            if self.predict_samples:
                raise UserError("predict_samples are texts, and this data has none; leave them out")
            return
        check_text(model, data)
        tokenizer = open_tokenizer(data)
        for sample in self.predict_samples:
            length = len(tokenizer.encode(sample))
            if not length:
                raise UserError(
                    f"predict_samples has {sample!r}, which has no tokens to begin with"
                )
            if length > model.max_seq_len:
                raise UserError(
                    f"predict_samples has a text of {length:,} tokens, the model takes "
                    f"{model.max_seq_len:,}: {sample[:60]!r}"
                )

    def batches(self, data: Any, *, training: bool, seed: int, shard: Shard) -> Batches:
        """See `Task`; batches hold `ids`, `targets`, `predicted` and `input_mask`, all [B, M].

        Those of images hold `positions` [B, M, 3] as well.
        """
        return BATCHES[type(data)](data, training=training, seed=seed, shard=shard)

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """Cross-entropy, bits and accuracy over the tokens that the latents predict."""
        given = {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}
        options = {name: value for name, value in given.items() if value}
        return _sums(model, batch, batch["predicted"], key, **options)

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """The same without dropout, smoothing and z-loss."""
        return _sums(model, batch, batch["predicted"] & batch["mask"][:, None], None)

    def card(self, model: CausalSequenceConfig, data: Any) -> ModelCard:
        """The tokenizer, of text; the vocabulary, of music."""
        if isinstance(data, TextDataConfig):
            return ModelCard(text=text_preprocessing(data))
        if isinstance(data, MusicDataConfig):
            return ModelCard(music=music_preprocessing(data))
        return ModelCard()

    def files(self, data: Any) -> Mapping[str, bytes]:
        """The file of the tokenizer, of text."""
        return tokenizer_files(data) if isinstance(data, TextDataConfig) else {}

    def show(self, model: Model, batch: Batch, data: Any) -> Media:
        """How the model continues the sample texts, or of music a held-out piece."""
        if isinstance(data, MusicDataConfig):
            return self._show_music(model, data)
        if not isinstance(data, TextDataConfig) or not self.predict_samples:
            return Media()
        tokenizer = open_tokenizer(data)
        prompts = [tokenizer.encode(sample) for sample in self.predict_samples]
        made = self._continued(model, prompts)
        shown, lines = [], []
        for sample, tokens in zip(self.predict_samples, made, strict=True):
            text = tokenizer.decode(tokens.tolist())
            shown.append(f"**{_markdown(sample)}**{_markdown(text)}")
            lines.append(f"  {sample}|{' '.join(text.split())}")
        return Media(texts={"continuations": "\n\n".join(shown)}, lines=tuple(lines))

    def _show_music(self, model: Model, data: MusicDataConfig) -> Media:
        length = min(self.predict_prompt, cast(CausalSequenceModel, model).config.max_seq_len)
        prompt = np.array(open_events(data, data.eval_split)[0][:length])
        # Padding is no event.
        made = self._continued(model, [prompt], suppress_tokens=(MUSIC_PADDING,))
        return shown_continuation(prompt, made[0])

    def _continued(
        self, model: Model, prompts: Sequence[Any], suppress_tokens: Sequence[int] = ()
    ) -> list[np.ndarray]:
        config = cast(CausalSequenceModel, model).config
        steps = config.why_no_steps(embedded=config.abs_pos_emb) is None
        return generate(
            model,
            prompts,
            max_new_tokens=self.predict_tokens,
            sampling=Sampling(top_k=self.predict_top_k),
            suppress_tokens=suppress_tokens,
            refill="half" if steps else "every",
            key=jax.random.key(0),
        )


def _check_sizes(model: CausalSequenceConfig, vocab_size: int, num_tokens: int) -> None:
    if model.vocab_size != vocab_size:
        raise UserError(
            f"this data has {vocab_size} ids, the model {model.vocab_size}; set "
            f"--config.model.vocab_size={vocab_size}"
        )
    if num_tokens > model.max_seq_len:
        raise UserError(
            f"rows have {num_tokens:,} tokens, the model takes {model.max_seq_len:,}; raise "
            "--config.model.max_seq_len"
        )


def _check_positions(model: CausalSequenceConfig, data: ImageSequenceDataConfig) -> None:
    """Whether the tables have rows for x, y and channel, unless places are counted.

    Neither must an evaluated block have more values than there are latents.
    """
    block = data.eval_block_size
    if block is not None and block > model.max_latents:
        raise UserError(
            f"a model with max_latents={model.max_latents} does not predict blocks of "
            f"{block:,} values; set --config.data.eval_block_size={model.max_latents}"
        )
    shape, needed = model.position_shape or (model.max_seq_len,), data.position_sizes
    if len(shape) == 1:
        return
    if len(shape) != len(needed) or any(n < k for n, k in zip(shape, needed, strict=True)):
        raise UserError(
            f"these images need tables of positions of {needed}, and the model has "
            f"position_shape={shape}; set --config.model.position_shape={needed}"
        )


def _sums(model: Model, batch: Batch, counted: Array, key: Key | None, **options: float) -> Sums:
    several = len(cast(CausalSequenceModel, model).config.position_shape or (0,)) > 1
    positions = batch["positions"] if several else None
    logits = model(batch["ids"], batch["input_mask"], positions, key=key)
    first = batch["ids"].shape[1] - logits.shape[1]
    targets, counted = batch["targets"][:, first:], counted[:, first:]
    sums = token_sums(logits, targets, counted, **options)
    total, weight = token_sums(logits, targets, counted)["loss"] if options else sums["loss"]
    return {**sums, "bits_per_token": (total / math.log(2.0), weight)}


def _markdown(text: str) -> str:
    """Text in which Markdown finds nothing of its own."""
    for mark in "\\`*_#<>|[]":
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", "  \n")
