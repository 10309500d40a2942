"""Notes to how they go on, by a causal model of events."""

from collections.abc import Sequence

import jax
import numpy as np

from perceiver_jax.card import MusicPreprocessing
from perceiver_jax.data.music import VOCAB_SIZE, MusicError, Note, decode, encode
from perceiver_jax.data.music.performance import PAD_ID, VELOCITY
from perceiver_jax.errors import UserError
from perceiver_jax.generate import Search, generate
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.pipelines.model_kinds import kind_of
from perceiver_jax.pretrained import Source, as_release
from perceiver_jax.prompts import known_settings, last_tokens
from perceiver_jax.sampling import ANY_TOKEN, Sampling
from perceiver_jax.windows import Refill


class MusicGeneration:
    """A causal model of music with what it needs before and after.

    Args:
        source: a workdir, `FORMAT:PATH-OR-HUB-ID`, or the model; its card tells its vocabulary. One
            of 389 ids without a card counts as published by krasserm, whose events tell the
            velocity of every note.

    Raises:
        UserError: it is no causal model of music.
    """

    def __init__(self, source: Source):
        release = as_release(source)
        config, card = release.config, release.card
        if not isinstance(config, CausalSequenceConfig):
            raise UserError(
                f"{kind_of(config)} continues no music; take a causal model (CausalSequenceConfig)"
            )
        if card.text is not None:
            raise UserError("this model continues texts, not music; run generate-text")
        if config.vocab_size != VOCAB_SIZE:
            raise UserError(
                f"this model has {config.vocab_size} ids, and music {VOCAB_SIZE}; choose a model "
                "that was trained on music"
            )
        music = card.music or MusicPreprocessing(every_velocity=True)
        self.every_velocity = music.every_velocity
        self.config = config
        self.model = release.model()

    @known_settings(key="seed=0")
    def __call__(
        self,
        notes: Sequence[Note],
        *,
        only_continuation: bool = False,
        max_new_tokens: int = 256,
        num_latents: int | None = None,
        sampling: Sampling = ANY_TOKEN,
        search: Search | None = None,
        refill: Refill = "half",
        seed: int = 0,
    ) -> list[Note]:
        """A piece that begins with the notes.

        Args:
            notes: what to continue; of more than the model takes, the end is seen, and a warning
                tells so.
            only_continuation: leave the given notes out, and begin where the last of them ends.
            max_new_tokens: events that the model adds; a note is two and more of them.
            num_latents: latents to begin with; None: as in `generate`.
            sampling: how events are drawn, where no search chooses them; padding never is.
            search: how they are searched for; None: they are drawn.
            refill: what happens when latents are used up, see `windows`.
            seed: of what is drawn.

        Returns:
            Notes by start, then pitch; at least one.

        Raises:
            UserError: there is no note to begin with, a number is out of range, or the model made
                no note where only its own are asked for.
        """
        events = encode(notes, every_velocity=self.every_velocity)
        if not len(events):
            raise MusicError("there is no music to continue; give some notes to begin with")
        prompt = last_tokens(events, self.config.max_seq_len, "music")
        (made,) = generate(
            self.model,
            [prompt],
            max_new_tokens=max_new_tokens,
            num_latents=num_latents,
            sampling=sampling,
            search=search,
            suppress_tokens=[PAD_ID],
            refill=refill,
            key=jax.random.key(seed),
        )
        before = _velocity_at_the_end(events) if only_continuation else events
        piece = decode(np.concatenate([before, made]))
        if not piece:
            raise MusicError(
                f"the model made no note in {max_new_tokens:,} events; let it make more, or give "
                "another seed"
            )
        return piece


def _velocity_at_the_end(events: np.ndarray) -> np.ndarray:
    """The last event that tells a velocity, [1]: it holds for the notes that follow."""
    return events[(events >= VELOCITY) & (events < PAD_ID)][-1:]
