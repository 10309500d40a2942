"""What an encoder expects of an input adapter, and a decoder of an output adapter.

- `ModalityConfig` is what a new modality extends: its config, which makes its input adapter.
- An adapter announces its channels when it is built, so that a model is built without seeing data.
- An input adapter hands over `Tokens`, not a dense array: see `core.tokens`.
- Output queries may be learned, made of the tokens (optical flow), or absent, in which
  case the caller gives them.
"""

import abc
import dataclasses
from typing import Any, Protocol

from flax import nnx

from perceiver_jax.adapters.input_arrays import InputArrays
from perceiver_jax.config import OpenChoice
from perceiver_jax.core import EncoderConfig
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class InputAdapter(Protocol):
    """Turns a batch of raw inputs into tokens."""

    num_input_channels: int
    """channels C of the dense tokens, positions included"""

    def __call__(
        self, inputs: Any, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """Adapts inputs.

        Args:
            inputs: [B, ...] whatever the modality is; the adapter checks shapes.
            input_mask: [B, M] bool, True = an element; handed on in the tokens.
            key: random key; given in training, None in inference.

        Returns:
            Tokens of M elements with `num_input_channels` channels when dense.

        Raises:
            ValueError: the inputs have another shape than the adapter was built for.
        """
        ...


class OutputAdapter(Protocol):
    """Gives the queries of a decoder and turns its answers into predictions."""

    num_output_query_channels: int
    """channels E of queries and answers"""
    pointwise: bool
    """whether every answer becomes a prediction of its own, so that blocks of them may"""
    tied: bool
    """whether predictions are made with the input adapter's `token_embedding`"""

    def make_queries(self, tokens: Tokens) -> Array | Tokens:
        """[O, E] or [B, O, E] queries, or tokens; `tokens` are those of the input adapter.

        The mask of queries that are tokens says which of them are asked: the attention result of
        the others is zero.

        Raises:
            ValueError: this adapter has no queries of its own.
        """
        ...

    def __call__(self, outputs: Array) -> Any:
        """[B, O, E] answers → predictions; a tied adapter takes the keyword `embedding` besides."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityConfig(EncoderConfig, OpenChoice, abc.ABC):
    """An encoder of one modality: the fields of a subclass say how its input adapter is made.

    A subclass is a frozen dataclass in the file of its adapter. Importing that file is all it takes
    for configs and saved models to know it: `models.Classifier` takes any of them.
    """

    @abc.abstractmethod
    def input_adapter(self, *, rngs: nnx.Rngs) -> InputAdapter:
        """The adapter that the fields describe.

        Args:
            rngs: where initial values come from; adapters that learn nothing leave it alone.
        """

    def input_arrays(self) -> InputArrays | None:
        """What the model is called with; None where only the data tells."""
        return None
