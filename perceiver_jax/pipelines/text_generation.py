"""Texts to their continuations, by a causal model."""

from collections.abc import Iterator, Sequence

import jax

from perceiver_jax.errors import UserError
from perceiver_jax.generate import Refill, generate, stream
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.models.release import Release
from perceiver_jax.pipelines.texts import TextReader
from perceiver_jax.sampling import ANY_TOKEN, Sampling


class TextGeneration:
    """A causal model with what it needs before and after.

    Args:
        release: the model; its card tells the tokenizer.
        tokenizer: another tokenizer than the card tells, as `load_tokenizer` takes it.

    Raises:
        UserError: it is no causal model, or its tokenizer is not known.
    """

    def __init__(self, release: Release, tokenizer: str | None = None):
        if not isinstance(release.config, CausalSequenceConfig):
            raise UserError(
                f"a model with a {type(release.config).__name__} continues no text; it takes one "
                "with a CausalSequenceConfig"
            )
        self.reader = TextReader(release, tokenizer)
        self.config = release.config
        self.model = release.model()

    def __call__(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int = 256,
        num_latents: int | None = None,
        sampling: Sampling = ANY_TOKEN,
        stop_tokens: Sequence[int] = (),
        refill: Refill = "half",
        seed: int = 0,
    ) -> list[str]:
        """Continuations, without the texts themselves.

        Args:
            texts: what to continue; of a text longer than the model takes, its end is seen.
            max_new_tokens: most tokens of each.
            num_latents: latents to begin with; None: as in `generate`.
            sampling: how tokens are chosen.
            stop_tokens: ids of tokens that end a text, which they are no part of.
            refill: what happens when latents are used up, see `generate`.
            seed: of the choice.

        Raises:
            UserError: a text is empty, or a number out of range.
        """
        prompts = self._prompts(texts)
        made = generate(
            self.model,
            prompts,
            max_new_tokens=max_new_tokens,
            num_latents=num_latents,
            sampling=sampling,
            stop_tokens=stop_tokens,
            refill=refill,
            key=jax.random.key(seed),
        )
        kept = (
            tokens[:-1] if len(tokens) and tokens[-1] in stop_tokens else tokens for tokens in made
        )
        return [self.reader.tokenizer.decode(tokens.tolist()) for tokens in kept]

    def stream(
        self,
        text: str,
        *,
        max_new_tokens: int = 256,
        num_latents: int | None = None,
        sampling: Sampling = ANY_TOKEN,
        refill: Refill = "half",
        seed: int = 0,
    ) -> Iterator[str]:
        """Pieces of a continuation as they are made; joined they are what the call returns."""
        prompts = self._prompts([text])
        steps = stream(
            self.model,
            prompts,
            max_new_tokens=max_new_tokens,
            num_latents=num_latents,
            sampling=sampling,
            refill=refill,
            key=jax.random.key(seed),
        )
        tokens, shown, whole = [], 0, ""
        for step in steps:
            tokens += step[0].tolist()
            whole = self.reader.tokenizer.decode(tokens)
            # A character that is not whole yet is waited for.
            if not whole.endswith("\ufffd"):
                yield whole[shown:]
                shown = len(whole)
        if shown < len(whole):
            yield whole[shown:]

    def _prompts(self, texts: Sequence[str]) -> list[list[int]]:
        if isinstance(texts, str) or not texts:
            raise UserError("give a list of texts, with at least one")
        prompts = []
        for text in texts:
            tokens = self.reader.tokenizer.encode(text)
            if not len(tokens):
                raise UserError(f"{text!r} has no tokens to begin with; give some text")
            prompts.append(tokens[-self.config.max_seq_len :])
        return prompts
