"""Texts with gaps to what was there: cross-entropy and accuracy at the chosen tokens."""

import dataclasses
from collections.abc import Mapping

import grain
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.card import ModelCard
from perceiver_jax.config import setting
from perceiver_jax.data import Shard
from perceiver_jax.data.text import TextDataConfig, masked_batches, open_tokenizer
from perceiver_jax.data.text.tokenizers import MASK_TEXT, Tokenizer, required_token
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, TextDecoderConfig, TextEncoderConfig
from perceiver_jax.models.masked_language_model import top_tokens
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.train.losses import token_sums
from perceiver_jax.train.tasks.base import Media
from perceiver_jax.train.tasks.text import check_text, text_preprocessing, tokenizer_files
from perceiver_jax.typing import Array, Batch, Key, Model, Sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelling:
    """Predict the tokens that were masked out; losses and accuracies are means over them."""

    max_predictions: int | None = setting(
        None,
        "most masked tokens of a row that are predicted, the first ones: the decoder is asked for "
        "no others, which saves most of its work, in training and in evaluation; None: it is asked "
        "for every position",
    )
    predict_samples: tuple[str, ...] = setting(
        (),
        "sentences with [MASK] in them; at every evaluation the best tokens for each are shown "
        "in TensorBoard's text page and in the log",
    )
    predict_k: int = setting(5, "how many tokens are shown for each [MASK]")

    def __post_init__(self):
        if self.predict_k < 1:
            raise ValueError(f"predict_k={self.predict_k} must be 1 or more")
        if self.max_predictions is not None and self.max_predictions < 1:
            raise ValueError(f"max_predictions={self.max_predictions} must be 1 or more, or None")
        for sample in self.predict_samples:
            if MASK_TEXT not in sample:
                raise ValueError(
                    f"predict_samples has {sample!r}, in which there is no {MASK_TEXT} to fill"
                )

    def check(self, model: PerceiverConfig, data: TextDataConfig) -> None:
        """See `Task`."""
        encoder, decoder = half_of(model, "encoder"), half_of(model, "decoder")
        if not (
            isinstance(encoder, TextEncoderConfig)
            and isinstance(decoder, TextDecoderConfig)
            and isinstance(data, TextDataConfig)
        ):
            raise UserError(
                "masked language modelling takes a TextEncoderConfig, a TextDecoderConfig and a "
                f"TextDataConfig, not {type(encoder).__name__}, {type(decoder).__name__} and "
                f"{type(data).__name__}; choose these in the config file"
            )
        check_text(encoder, data)
        tokenizer = open_tokenizer(data)
        required_token(tokenizer, "mask", "masked language modelling")
        if self.predict_k > tokenizer.vocab_size:
            raise UserError(
                f"predict_k={self.predict_k} is more than the {tokenizer.vocab_size} tokens of "
                f"tokenizer '{tokenizer.name}'"
            )
        for sample in self.predict_samples:
            length = len(_sample_ids(sample, tokenizer, data))
            if length > encoder.max_seq_len:
                raise UserError(
                    f"predict_samples has a text of {length:,} tokens, the model takes "
                    f"{encoder.max_seq_len:,}: {sample[:60]!r}"
                )

    def batches(
        self, data: TextDataConfig, *, training: bool, seed: int, shard: Shard
    ) -> grain.MapDataset:
        """See `Task`; batches hold `ids`, `targets`, `predicted` and `input_mask`, all [B, M]."""
        return masked_batches(data, training=training, seed=seed, shard=shard)

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """Cross-entropy and accuracy over the chosen tokens."""
        return self._sums(model, batch, batch["predicted"], key)

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """The same without dropout."""
        return self._sums(model, batch, batch["predicted"] & batch["mask"][:, None], None)

    def _sums(self, model: Model, batch: Batch, counted: Array, key: Key | None) -> Sums:
        indices, targets = None, batch["targets"]
        if self.max_predictions is not None and self.max_predictions < targets.shape[1]:
            # Of equal values the first ones are the top ones.
            counted, indices = jax.lax.top_k(counted.astype(jnp.int32), self.max_predictions)
            targets = jnp.take_along_axis(targets, indices, axis=1)
        logits = model(batch["ids"], batch["input_mask"], query_indices=indices, key=key)
        return token_sums(logits, targets, counted)

    def card(self, model: PerceiverConfig, data: TextDataConfig) -> ModelCard:
        """The tokenizer."""
        return ModelCard(text=text_preprocessing(data))

    def files(self, data: TextDataConfig) -> Mapping[str, bytes]:
        """The file of the tokenizer."""
        return tokenizer_files(data)

    def show(self, model: Model, batch: Batch, data: TextDataConfig) -> Media:
        """The best tokens for each mask of the sample sentences."""
        if not self.predict_samples:
            return Media()
        tokenizer = open_tokenizer(data)
        rows = [_sample_ids(sample, tokenizer, data) for sample in self.predict_samples]
        ids = np.full(
            (len(rows), max(map(len, rows))), required_token(tokenizer, "pad", "a batch"), np.int32
        )
        mask = np.zeros(ids.shape, bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, True
        tokens, probabilities = map(np.asarray, top_tokens(model, ids, mask, self.predict_k))
        table = ["| text | mask | " + " | ".join(f"{i + 1}." for i in range(self.predict_k)) + " |"]
        table.append("|---" * (2 + self.predict_k) + "|")
        lines = []
        for i, sample in enumerate(self.predict_samples):
            for nth, place in enumerate(np.flatnonzero(ids[i] == tokenizer.mask_id), start=1):
                fills = [
                    (_readable(tokenizer, int(token)), float(probability))
                    for token, probability in zip(
                        tokens[i, place], probabilities[i, place], strict=True
                    )
                ]
                cells = [f"`{_cell(token)}` {p:.1%}" for token, p in fills]
                table.append(f"| {_cell(sample)} | {nth} | " + " | ".join(cells) + " |")
                words = "  ".join(f"{token!r} {p:.1%}" for token, p in fills)
                lines.append(f"  {sample}  mask {nth}: {words}")
        return Media(texts={"fills": "\n".join(table)}, lines=tuple(lines))


def _sample_ids(sample: str, tokenizer: Tokenizer, data: TextDataConfig) -> np.ndarray:
    """[n] ids of a sample sentence, as rows of the data have them."""
    ids = tokenizer.encode_with_masks(sample)
    if not data.add_special_tokens:
        return ids
    ends = [required_token(tokenizer, kind, "add_special_tokens") for kind in ("cls", "sep")]
    return np.concatenate([[ends[0]], ids, [ends[1]]]).astype(np.int32)


def _readable(tokenizer: Tokenizer, token: int) -> str:
    """The text of a token, or its name where it has none of its own.

    Bytes that are no whole character have the name, too: as text they would all look the same.
    """
    text = tokenizer.decode([token])
    return text if text and "\ufffd" not in text else tokenizer.token(token)


def _cell(text: str) -> str:
    """Text that does not end a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
