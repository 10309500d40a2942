"""What an attention is made of: heads, channels, biases, norms."""

import contextlib
import dataclasses
from collections.abc import Iterator

from perceiver_jax.core.dense import MaskedRows
from perceiver_jax.core.linear import ComputeDtype, Implementation, InitConfig, NormKind
from perceiver_jax.core.rotary_time import RotaryTimeConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """What the reference implementations vary in an attention and its residual branch.

    Attributes:
        num_heads: heads H; divides both channel numbers.
        num_kv_heads: heads of keys and values, each of which serves H / num_kv_heads neighbouring
            heads of queries; None: H.
        num_qk_channels: query channels of all H heads; None: the queries' channels. Keys have as
            many per head.
        num_v_channels: value channels of all heads, were there H; None: `num_qk_channels`.
        num_output_channels: channels of the result; None: the queries' channels.
        q_bias: whether the query projection has a bias.
        k_bias: whether the key projection has a bias.
        v_bias: whether the value projection has a bias.
        out_bias: whether the output projection has a bias.
        q_norm: whether the queries (in self-attention: the inputs) are normed first.
        kv_norm: whether the inputs of a cross-attention are normed first.
        qk_norm: whether each head's queries and keys are normed once more, after projection.
        norm: which norm all of these are.
        layer_norm_epsilon: added to the variance, or mean square, in those norms.
        queries_contribute_kv: whether a cross-attention has keys and values of its normed queries
            as well as of its inputs (Flamingo); both then have the same channels.
        rotary: how heads are turned by moments in time; None: not at all.
        residual: whether the un-normalised queries are added to the result.
        dropout: dropout rate of attention weights.
        residual_dropout: dropout rate of the result before it is added to the queries.
        masked_rows: what a query gets that may attend to nothing: "zero" (DeepMind) or "uniform"
            attention over all keys, masked ones included (the PyTorch libraries).
        init: initial values of the projections.
        compute_dtype: type in which the projections and products are computed.
        implementation: "plain" computes by the definition with automatic gradients; "auto" whatever
            is fastest of the forms that are exact.
    """

    num_heads: int = 8
    num_kv_heads: int | None = None
    num_qk_channels: int | None = None
    num_v_channels: int | None = None
    num_output_channels: int | None = None
    q_bias: bool = True
    k_bias: bool = True
    v_bias: bool = True
    out_bias: bool = True
    q_norm: bool = True
    kv_norm: bool = True
    qk_norm: bool = False
    norm: NormKind = "layer_norm"
    layer_norm_epsilon: float = 1e-5
    queries_contribute_kv: bool = False
    rotary: RotaryTimeConfig | None = None
    residual: bool = True
    dropout: float = 0.0
    residual_dropout: float = 0.0
    masked_rows: MaskedRows = "zero"
    init: InitConfig = InitConfig()
    compute_dtype: ComputeDtype = "float32"
    implementation: Implementation = "auto"


@contextlib.contextmanager
def errors_of(part: str) -> Iterator[None]:
    """Says of which part of a model a ValueError is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error


def check_heads(config: AttentionConfig, *, num_qk_channels: int, num_v_channels: int) -> None:
    """Raises a ValueError where channels of all heads do not fit the heads."""
    num_heads, num_kv_heads, rotary = config.num_heads, config.num_kv_heads, config.rotary
    all_channels = {"num_qk_channels": num_qk_channels, "num_v_channels": num_v_channels}
    for name, channels in all_channels.items():
        if channels % num_heads:
            raise ValueError(
                f"{name}={channels} cannot be split over num_heads={num_heads}; choose a number "
                f"of heads that divides it, or set {name} to a multiple of the heads"
            )
    if num_kv_heads is not None and num_heads % num_kv_heads:
        raise ValueError(
            f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; each head of keys "
            "and values serves the same number of heads of queries"
        )
    if rotary is None:
        return
    turned = tuple(all_channels) if rotary.values else ("num_qk_channels",)
    for name in turned:
        if rotary.num_channels * num_heads > all_channels[name]:
            raise ValueError(
                f"{rotary.num_channels} channels of each head are to be turned, but a head has "
                f"{all_channels[name] // num_heads} ({name} over num_heads); turn fewer"
            )
