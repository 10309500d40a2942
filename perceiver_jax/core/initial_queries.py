"""What the latents of a Perceiver AR start from."""

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.linear import linear
from perceiver_jax.core.perceiver_ar_config import PerceiverARConfig
from perceiver_jax.typing import Array


class InitialQueries(nnx.Module):
    """Embedded tokens at the latents' positions to latents.

    Args:
        config: `initial_queries` and what goes with it.
        rngs: where initial values come from.

    Source: krasserm and lucidrains (the tokens themselves); perceiver-ar `z_linear`,
    `initial_query_embed_style` and `num_latents_per_position`.
    """

    def __init__(self, config: PerceiverARConfig, *, rngs: nnx.Rngs):
        self.style = config.initial_queries
        self.repeats = config.num_latents_per_position
        channels = config.num_channels

        def projection(num_in):
            return linear(
                num_in,
                channels,
                init=config.init,
                compute_dtype=config.compute_dtype,
                implementation=config.implementation,
                rngs=rngs,
            )

        def learned(num):
            return nnx.Param(config.init.table()(rngs.params(), (num, channels), jnp.float32))

        if self.style in ("linear", "mlp"):
            self.linear = projection(config.input_channels)
        if self.style == "mlp":
            self.layer = nnx.List(
                [projection(channels) for _ in range(config.num_query_mlp_layers)]
            )
        if self.style == "learned":
            self.queries = learned(config.max_latents)
        if self.style == "learned_shared":
            self.queries = learned(1)
        if self.repeats > 1:
            self.latent_embedding = learned(self.repeats)

    def __call__(self, content: Array) -> Array:
        """[B, n, C] tokens at n positions → [B, n * latents of a position, D].

        Learned arrays of positions are those of the last n.
        """
        z = self._of_positions(content)
        if self.repeats > 1:
            z = jnp.repeat(z, self.repeats, axis=1)
            z = z + jnp.tile(self.latent_embedding[...], (content.shape[1], 1))[None]
        if self.style == "mlp":
            for layer in self.layer:
                z = jnp.square(jax.nn.relu(layer(z)))
        return z

    def _of_positions(self, content: Array) -> Array:
        if self.style == "inputs":
            return content
        if self.style in ("linear", "mlp"):
            return self.linear(content)
        batch, num_positions = content.shape[:2]
        queries = self.queries[...]
        if self.style == "learned":
            queries = queries[len(queries) - num_positions :]
        return jnp.broadcast_to(queries, (batch, num_positions, queries.shape[1]))
