"""Labels as a modality: a class is one token, and one query asks for it."""

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class LabelInputAdapter(nnx.Module):
    """The label is one token, of a channel for each class.

    Args:
        num_classes: classes K.

    Source: deepmind `OneHotPreprocessor`.
    """

    num_tokens = 1

    def __init__(self, *, num_classes: int):
        self.num_input_channels = num_classes

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B] classes, or [B, K] distributions over them → tokens of M = 1 element.

        Raises:
            ValueError: the labels are neither.
        """
        labels, classes = jnp.asarray(inputs), self.num_input_channels
        if labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.integer):
            labels = jax.nn.one_hot(labels, classes)
        if labels.ndim != 2 or labels.shape[1] != classes:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} and type {labels.dtype} are neither [batch]"
                f" whole numbers nor [batch, {classes}] distributions over classes"
            )
        if not jnp.issubdtype(labels.dtype, jnp.floating):
            labels = labels.astype(float)
        return Tokens(content=labels[:, None], mask=input_mask)


class LabelHead(nnx.Module):
    """One learned query, and a linear layer from its answer to logits.

    Args:
        num_classes: classes K.
        num_query_channels: channels of the query.
        num_features: channels of an answer.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: deepmind `ClassificationDecoder` and `ClassificationPostprocessor`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_query_channels: int,
        num_features: int,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        init = init or InitConfig()
        self.num_query_channels = num_query_channels
        self.query = nnx.Param(init.table()(rngs.params(), (1, num_query_channels), jnp.float32))
        self.linear = linear(num_features, num_classes, init=init, rngs=rngs)

    def queries(self) -> Tokens:
        """The one query."""
        return Tokens(content=self.query[...][None])

    def __call__(self, features: Array) -> Array:
        """[B, 1, num_features] → [B, 1, K] logits."""
        return self.linear(features)

    def whole(self, outputs: Array) -> Array:
        """[B, 1, K] → [B, K] logits."""
        return outputs[:, 0]
