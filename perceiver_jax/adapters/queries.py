"""Answers to queries that the caller gives: as they are, or through a linear layer."""

from flax import nnx

from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array


class GivenQueriesOutputAdapter(nnx.Module):
    """No queries of its own, and a linear layer from answers to outputs.

    Args:
        num_output_query_channels: channels E of queries and answers.
        num_outputs: channels of an output; None hands the answers out as they are.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: lucidrains `PerceiverIO(queries_dim=..., logits_dim=...)`.
    """

    pointwise = True
    tied = False

    def __init__(
        self,
        *,
        num_output_query_channels: int,
        num_outputs: int | None = None,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        self.num_output_query_channels = num_output_query_channels
        self.projected = num_outputs is not None
        if num_outputs is not None:
            self.linear = linear(
                num_output_query_channels, num_outputs, init=init or InitConfig(), rngs=rngs
            )

    def make_queries(self, tokens: Tokens) -> Array:
        """Refuses: there are none."""
        channels = self.num_output_query_channels
        raise ValueError(
            f"this model answers queries that are given; pass queries=[O, {channels}] or "
            f"[B, O, {channels}] at the call, or take the latents with `encode`"
        )

    def __call__(self, outputs: Array) -> Array:
        """[B, O, E] answers → [B, O, num_outputs], or [B, O, E]."""
        return self.linear(outputs) if self.projected else outputs
