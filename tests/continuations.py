"""A tiny causal model, what it says without a cache on the usual windows, and a made-up one."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.core.cache import Cache
from perceiver_jax.models import CausalSequenceConfig, build
from perceiver_jax.windows import window

VOCAB, CONTEXT, LATENTS = 23, 20, 6


def make_model(random_model, **fields):
    sizes = {"vocab_size": VOCAB, "max_seq_len": CONTEXT, "max_latents": LATENTS}
    sizes |= {"num_channels": 16, "num_heads": 2, "num_self_attention_layers": 1}
    config = CausalSequenceConfig(output_norm=True, **sizes | fields)
    return random_model(lambda: build(config, jax.random.key(0)))


def prompt(length, seed=0, vocab_size=VOCAB):
    return np.random.default_rng((length, seed)).integers(0, vocab_size, length).tolist()


def view(config, length, num_new, num_latents, refill="half"):
    """What predicts the token after so many new ones: the first token seen, and how many latents.

    Args: length of the prompt, and with how many latents it begins.
    """
    sizes = {"max_seq_len": config.max_seq_len, "max_latents": config.max_latents}
    seen, made = window(length, num_latents, refill=refill, **sizes), 0
    while num_new - made >= seen.num_steps:
        made += seen.num_steps
        seen = window(length + made, refill=refill, **sizes)
    return seen.first, seen.num_latents + num_new - made


call = jax.jit(lambda model, *args, **sizes: model(*args, **sizes), static_argnames="num_latents")


def log_probabilities(model, tokens, new, num_latents, refill="half"):
    """[R, V] of the tokens after each of R continuations of one length, by a whole call."""
    rows = np.array([[*tokens, *row] for row in new])
    first, latents = view(model.config, len(tokens), len(new[0]), num_latents, refill)
    ids = rows[:, first:]
    # Padding means nothing, and keeps the number of compiled programs low.
    width = model.config.max_seq_len - model.config.max_latents + latents
    missing = width - ids.shape[1], -len(ids) % 4
    ids, mask = (
        np.pad(x, ((0, missing[1]), (missing[0], 0))) for x in (ids, np.ones(ids.shape, bool))
    )
    logits = call(model, ids, mask, num_latents=latents)[: len(rows), -1]
    return np.asarray(jax.nn.log_softmax(logits))


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("logits", "hidden"), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class Pairs:
    """A model whose logits [V, V] and hidden states [V, D] depend on the last token alone."""

    logits: Any
    hidden: Any
    config: ClassVar = CausalSequenceConfig(vocab_size=6, max_seq_len=64, max_latents=32)

    @classmethod
    def of(cls, p, hidden=None):
        return cls(jnp.log(jnp.asarray(p)), jnp.zeros((6, 1)) if hidden is None else hidden)

    def prefill(self, ids, input_mask, *, num_latents, num_steps):
        mask = jnp.pad(input_mask[:, -num_latents:], ((0, 0), (0, num_steps)))
        cache = Cache((), (), mask, mask, jnp.int32(num_latents), jnp.int32(num_latents))
        return self.logits[ids[:, -1]], self.hidden[ids[:, -num_latents:]], cache

    def step(self, ids, cache):
        mask = cache.latent_mask.at[:, cache.num_latents].set(True)
        cache = Cache((), (), mask, mask, cache.num_tokens + 1, cache.num_latents + 1)
        return self.logits[ids], self.hidden[ids][:, None], cache
