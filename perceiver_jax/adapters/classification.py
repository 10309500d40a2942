"""Class logits from answers to learned, constant or given queries; always in float32 or more."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.config import check_size
from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array

Queries = Literal["trainable", "zeros", "given"]


class ClassificationOutputAdapter(nnx.Module):
    """One or several class queries, and a linear layer from answers to logits.

    Args:
        num_classes: classes.
        num_output_query_channels: channels E of queries and answers.
        num_output_queries: queries O.
        output_queries: "trainable"; "zeros", a constant; or "given" by the caller at every call.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Raises:
        ValueError: no classes, or no queries.

    Source: krasserm `ClassificationOutputAdapter` and `TrainableQueryProvider`; deepmind
    `ClassificationDecoder`; constant queries as in MNIST classifiers on lucidrains `PerceiverIO`.
    """

    pointwise = False
    tied = False

    def __init__(
        self,
        *,
        num_classes: int,
        num_output_query_channels: int,
        num_output_queries: int = 1,
        output_queries: Queries = "trainable",
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        check_size("num_classes", num_classes)
        check_size("num_output_queries", num_output_queries)
        init = init or InitConfig()
        self.num_output_query_channels = num_output_query_channels
        self.shape = (num_output_queries, num_output_query_channels)
        self.output_queries = output_queries
        if output_queries == "trainable":
            self.queries = nnx.Param(init.table()(rngs.params(), self.shape, jnp.float32))
        self.linear = linear(
            num_output_query_channels,
            num_classes,
            init=init,
            rngs=rngs,
        )

    def make_queries(self, tokens: Tokens) -> Array:
        """[O, E] queries, the same for every input."""
        if self.output_queries == "given":
            raise ValueError(
                "this classifier was built with output_queries='given'; pass queries="
                f"[{self.shape[0]}, {self.shape[1]}] or [B, {self.shape[0]}, {self.shape[1]}] at "
                "the call"
            )
        if self.output_queries == "zeros":
            return jnp.zeros(self.shape, jnp.promote_types(tokens.content.dtype, jnp.float32))
        return self.queries[...]

    def __call__(self, outputs: Array) -> Array:
        """[B, O, E] → [B, classes] logits, or [B, O, classes] where there are several queries."""
        logits = self.linear(outputs)
        return logits[:, 0] if logits.shape[1] == 1 else logits
