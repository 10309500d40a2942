"""Rows of lucidrains' layers: a layer of ours may have several names there, where it is tied.

- `theirs` are the names of one and the same module; the first is loaded, all are written.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from interop.ops import KEEP, SPLIT, TRANSPOSE, Op
from interop.rows import Row, row
from perceiver_jax.core import EncoderConfig

Names = Sequence[str]


def layers_of_perceiver(encoder: EncoderConfig) -> list[Row]:
    """Layers of cross-attention and self-attentions of a `Perceiver`, one per step."""
    crosses: dict[int, list[str]] = {}
    blocks: dict[int, list[str]] = {}
    for step, (cross, block) in enumerate(encoder.schedule):
        if cross is not None:  # always, see `expressible`
            crosses.setdefault(cross, []).append(f"layers.{step}")
        blocks.setdefault(block, []).append(f"layers.{step}.self_attns")
    rows: list[Row] = []
    for cross, names in crosses.items():
        attention, mlp = below(names, "cross_attn"), below(names, "cross_ff")
        rows += cross_layer(f"encoder/cross_attention/{cross}", attention, mlp)
    for block, names in blocks.items():
        for i in range(encoder.num_self_attention_layers_per_block):
            rows += self_layer(f"encoder/block/{block}/layer/{i}", below(names, str(i)))
    return rows


def layers_of_perceiver_io(encoder: EncoderConfig) -> list[Row]:
    """The cross-attention and the self-attention layers of a `PerceiverIO`."""
    block = "cross_attend_block"
    rows = cross_layer("encoder/cross_attention/0", [f"{block}.cross_attn"], [f"{block}.cross_ff"])
    layers: dict[str, list[str]] = {}
    applied = [
        f"encoder/block/{block}/layer/{i}"
        for _, block in encoder.schedule
        for i in range(encoder.num_self_attention_layers_per_block)
    ]
    for n, ours in enumerate(applied):
        layers.setdefault(ours, []).append(f"layers.{n}.self_attns.0")
    for ours, names in layers.items():
        rows += self_layer(ours, names)
    return rows


def cross_layer(ours: str, attended: Names, mlp_names: Names) -> list[Row]:
    """`PreNorm(Attention)` with a norm of its inputs, and `PreNorm(FeedForward)` if named."""
    return [
        *norm(f"{ours}/q_norm", below(attended, "norm")),
        *norm(f"{ours}/kv_norm", below(attended, "norm_context")),
        *attention(f"{ours}/attention", below(attended, "fn")),
        *(mlp(ours, mlp_names) if mlp_names else []),
    ]


def self_layer(ours: str, theirs: Names) -> list[Row]:
    """A pair of `PreNorm(Attention)` and `PreNorm(FeedForward)`."""
    return [
        *norm(f"{ours}/norm", below(theirs, "0.norm")),
        *attention(f"{ours}/attention", below(theirs, "0.fn")),
        *mlp(ours, below(theirs, "1")),
    ]


def attention(ours: str, theirs: Names) -> list[Row]:
    """An `Attention`, whose first projection of the inputs makes keys and values."""
    return [
        tied_row(f"{ours}/query/kernel", below(theirs, "to_q.weight"), TRANSPOSE),
        tied_row(
            (f"{ours}/key/kernel", f"{ours}/value/kernel"),
            below(theirs, "to_kv.weight"),
            SPLIT(2, 0, TRANSPOSE),
        ),
        *linear(f"{ours}/output", below(theirs, "to_out")),
    ]


def mlp(ours: str, theirs: Names) -> list[Row]:
    """A `PreNorm(FeedForward)`."""
    return [
        *norm(f"{ours}/mlp_norm", below(theirs, "norm")),
        *linear(f"{ours}/mlp/hidden", below(theirs, "fn.net.0")),
        *linear(f"{ours}/mlp/output", below(theirs, "fn.net.2")),
    ]


def linear(ours: str, theirs: Names) -> list[Row]:
    """A `torch.nn.Linear` with bias."""
    return [
        tied_row(f"{ours}/kernel", below(theirs, "weight"), TRANSPOSE),
        tied_row(f"{ours}/bias", below(theirs, "bias")),
    ]


def norm(ours: str, theirs: Names) -> list[Row]:
    """A `torch.nn.LayerNorm`."""
    return [
        tied_row(f"{ours}/scale", below(theirs, "weight")),
        tied_row(f"{ours}/bias", below(theirs, "bias")),
    ]


def tied_row(ours: str | tuple[str, ...], theirs: Names, op: Op = KEEP) -> Row:
    """A row whose second and later foreign names hold the tensor of the first."""
    first, *others = theirs
    return row(ours, first, op, tied=tuple(others))


def below(names: Names, member: str) -> list[str]:
    """The names of a member of a module."""
    return [f"{name}.{member}" for name in names]


def below_prefix(prefix: str, rows: Iterable[Row]) -> list[Row]:
    """The rows of a module that is a member of another one: all foreign names get a prefix."""
    return [
        dataclasses.replace(
            one,
            theirs=tuple(prefix + name for name in one.theirs),
            tied=tuple(prefix + name for name in one.tied),
        )
        for one in rows
    ]
