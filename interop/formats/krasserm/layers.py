"""Rows of the layers that all of the implementation's encoders and decoders are made of.

- `0.` is the encoder and `1.` the decoder; a layer without residual lacks `module.` in its names.
- `bias` is that of queries, keys, values and MLPs, `out_bias` that of what an attention gives.
"""

from interop.formats.torch_layers import linear, norm
from interop.rows import Row, row
from perceiver_jax.core import DecoderConfig, EncoderConfig


def encoder_rows(encoder: EncoderConfig) -> list[Row]:
    """Latents, cross-attentions and blocks; what its input adapter learns is not among them."""
    result = [row("encoder/latents", "0.latent_provider._query")]
    repeated = ("1", "n")
    for j in sorted({cross for cross, _ in encoder.schedule if cross is not None}):
        result += cross_layer(
            f"encoder/cross_attention/{j}",
            f"0.cross_attn_{repeated[j]}",
            residual=True,
        )
    for j in sorted({block for _, block in encoder.schedule}):
        for i in range(encoder.num_self_attention_layers_per_block):
            result += self_layer(f"encoder/block/{j}/layer/{i}", f"0.self_attn_{repeated[j]}.{i}")
    return result


def embedding_rows() -> list[Row]:
    """A `TokenInputAdapter`."""
    ours, theirs = "encoder/input_adapter", "0.input_adapter"
    return [
        row(f"{ours}/token_embedding", f"{theirs}.txt_embedding.weight"),
        row(f"{ours}/position_embedding", f"{theirs}.pos_embedding.weight"),
    ]


def decoder_rows(decoder: DecoderConfig) -> list[Row]:
    """The cross-attention and its trainable queries; predictions are not among them."""
    return [
        *cross_layer(
            "decoder/cross_attention", "1.cross_attn", residual=decoder.cross_attention_residual
        ),
        row("decoder/output_adapter/queries", "1.output_query_provider._query"),
    ]


def prediction_rows() -> list[Row]:
    """The linear layer of an output adapter."""
    return linear("decoder/output_adapter/linear", "1.output_adapter.linear")


def cross_layer(ours: str, theirs: str, *, residual: bool, bias: bool = True) -> list[Row]:
    """A `CrossAttentionLayer`."""
    attended = f"{theirs}.0.module" if residual else f"{theirs}.0"
    return [
        *norm(f"{ours}/q_norm", f"{attended}.q_norm"),
        *norm(f"{ours}/kv_norm", f"{attended}.kv_norm"),
        *attention(f"{ours}/attention", f"{attended}.attention", bias=bias),
        *mlp(ours, f"{theirs}.1.module", bias=bias),
    ]


def self_layer(ours: str, theirs: str, *, bias: bool = True, out_bias: bool = True) -> list[Row]:
    """A `SelfAttentionLayer`."""
    attended = f"{theirs}.0.module"
    return [
        *norm(f"{ours}/norm", f"{attended}.norm"),
        *attention(f"{ours}/attention", f"{attended}.attention", bias=bias, out_bias=out_bias),
        *mlp(ours, f"{theirs}.1.module", bias=bias),
    ]


def attention(ours: str, theirs: str, *, bias: bool = True, out_bias: bool = True) -> list[Row]:
    """A `MultiHeadAttention`."""
    return [
        *linear(f"{ours}/query", f"{theirs}.q_proj", bias=bias),
        *linear(f"{ours}/key", f"{theirs}.k_proj", bias=bias),
        *linear(f"{ours}/value", f"{theirs}.v_proj", bias=bias),
        *linear(f"{ours}/output", f"{theirs}.o_proj", bias=out_bias),
    ]


def mlp(ours: str, theirs: str, *, bias: bool = True) -> list[Row]:
    """An `MLP`, whose first member is its norm."""
    return [
        *norm(f"{ours}/mlp_norm", f"{theirs}.0"),
        *linear(f"{ours}/mlp/hidden", f"{theirs}.1", bias=bias),
        *linear(f"{ours}/mlp/output", f"{theirs}.3", bias=bias),
    ]
