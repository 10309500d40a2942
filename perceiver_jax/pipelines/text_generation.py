"""Texts to their continuations, by a causal model."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax

from perceiver_jax.beam_search import BeamSearch
from perceiver_jax.contrastive_search import ContrastiveSearch
from perceiver_jax.errors import UserError
from perceiver_jax.generate import Search, generate, stream
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.pipelines.growing_text import GrowingText, checked_stop_texts
from perceiver_jax.pipelines.model_kinds import kind_of
from perceiver_jax.pipelines.texts import TextReader
from perceiver_jax.pretrained import Source, as_release
from perceiver_jax.prompts import known_settings, last_tokens, token_ids
from perceiver_jax.sampling import ANY_TOKEN, Sampling
from perceiver_jax.windows import Refill

ELSEWHERE = {"key": "seed=0", "stop": "stop_texts=['.']"}
"""Arguments of `generate` and of others, and what to give in their place."""
TOKENS_BETWEEN_LOOKS = 16
"""So many are made before texts are searched for stop texts, where nobody waits for each token."""


class TextGeneration:
    """A causal model with what it needs before and after.

    Args:
        source: a workdir, `FORMAT:PATH-OR-HUB-ID`, or the model; its card tells the tokenizer.
        tokenizer: another tokenizer than the card tells, as `load_tokenizer` takes it.

    Raises:
        UserError: it is no causal model, or its tokenizer is not known.
    """

    def __init__(self, source: Source, tokenizer: str | None = None):
        release = as_release(source)
        if not isinstance(release.config, CausalSequenceConfig):
            raise UserError(
                f"{kind_of(release.config)} continues no text; take a causal model "
                "(CausalSequenceConfig)"
            )
        self.reader = TextReader(release, tokenizer)
        self.config = release.config
        self.model = release.model()

    @known_settings(**ELSEWHERE)
    def __call__(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int = 256,
        num_latents: int | None = None,
        sampling: Sampling = ANY_TOKEN,
        search: Search | None = None,
        stop_tokens: Sequence[int] = (),
        stop_texts: Sequence[str] = (),
        refill: Refill = "half",
        seed: int = 0,
    ) -> list[str]:
        """Continuations, without the texts themselves.

        Args:
            texts: what to continue; of a text longer than the model takes, its end is seen, and a
                warning tells so.
            max_new_tokens: most tokens of each.
            num_latents: latents to begin with; None: as in `generate`.
            sampling: how tokens are drawn, where no search chooses them.
            search: how they are searched for; None: they are drawn.
            stop_tokens: ids of tokens that end a text, which they are no part of.
            stop_texts: a continuation ends where it contains one of them, which is no part of it;
                not with beam search, whose scores know of tokens alone.
            refill: what happens when latents are used up, see `windows`.
            seed: of what is drawn.

        Raises:
            UserError: a text or a stop text is empty, a number out of range or of another type, or
                settings that do not go together.
        """
        prompts, stop_texts = self._prompts(texts), checked_stop_texts(stop_texts)
        stop_tokens = token_ids("stop_tokens", stop_tokens)
        settings: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "num_latents": num_latents,
            "sampling": sampling,
            "search": search,
            "stop_tokens": stop_tokens,
            "refill": refill,
            "key": jax.random.key(seed),
        }
        tokenizer = self.reader.tokenizer
        if not stop_texts:
            made = generate(self.model, prompts, **settings)
            return [tokenizer.decode(_without_stop(row.tolist(), stop_tokens)) for row in made]
        if isinstance(search, BeamSearch):
            raise UserError(
                "stop texts end a text while it is made, and beam search makes many that are "
                "compared by their tokens; give stop tokens (--stop-token on the command line), or "
                "no beams"
            )
        growing = [GrowingText(tokenizer, stop_tokens, stop_texts) for _ in prompts]
        pieces: list[list[str]] = [[] for _ in prompts]
        for new in stream(self.model, prompts, **settings, at_once=TOKENS_BETWEEN_LOOKS):
            for text, row, tokens in zip(growing, pieces, new.tolist(), strict=True):
                row.append(text.add(tokens))
            if all(text.ended for text in growing):
                break
        return ["".join([*row, text.rest()]) for text, row in zip(growing, pieces, strict=True)]

    @known_settings(**ELSEWHERE)
    def stream(
        self,
        text: str,
        *,
        max_new_tokens: int = 256,
        num_latents: int | None = None,
        sampling: Sampling = ANY_TOKEN,
        search: ContrastiveSearch | None = None,
        stop_tokens: Sequence[int] = (),
        stop_texts: Sequence[str] = (),
        refill: Refill = "half",
        seed: int = 0,
    ) -> Iterator[str]:
        """Pieces of a continuation as they are made; joined they are what the call returns.

        What a stop text may begin with is held back until it is clear. Beam search has no pieces:
        its text is known when it has ended.
        """
        stop_tokens = token_ids("stop_tokens", stop_tokens)
        growing = GrowingText(
            self.reader.tokenizer, stop_tokens, stop_texts=checked_stop_texts(stop_texts)
        )
        steps = stream(
            self.model,
            self._prompts([text]),
            max_new_tokens=max_new_tokens,
            num_latents=num_latents,
            sampling=sampling,
            search=search,
            stop_tokens=stop_tokens,
            refill=refill,
            key=jax.random.key(seed),
        )
        for new in steps:
            piece = growing.add(new[0].tolist())
            if piece:
                yield piece
            if growing.ended:
                return
        rest = growing.rest()
        if rest:
            yield rest

    def _prompts(self, texts: Sequence[str]) -> list[list[int]]:
        if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
            raise UserError(f"texts={texts!r:.60}: give a list of texts, with at least one")
        prompts = []
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"{text!r:.60} is no text; give a list of texts")
            tokens = self.reader.tokenizer.encode(text)
            if not len(tokens):
                raise UserError(f"{text!r} has no tokens to begin with; give some text")
            prompts.append(last_tokens(tokens, self.config.max_seq_len, "a text"))
        return prompts


def _without_stop(tokens: list[int], stop_tokens: Sequence[int]) -> list[int]:
    return tokens[:-1] if tokens[-1] in stop_tokens else tokens
