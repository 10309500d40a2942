"""The architecture itself: attention, positions, tokens, encoder, decoder. Knows no modality."""

from perceiver_jax.core.attention import AttentionConfig, MultiHeadAttention
from perceiver_jax.core.decoder import DecoderConfig, MeanPoolHead, PerceiverDecoder
from perceiver_jax.core.dense import attend
from perceiver_jax.core.encoder import EncoderConfig, PerceiverEncoder
from perceiver_jax.core.layers import CrossAttentionLayer, SelfAttentionBlock, SelfAttentionLayer
from perceiver_jax.core.mlp import MLP, MLPConfig
from perceiver_jax.core.perceiver import Perceiver, PerceiverIO
from perceiver_jax.core.perceiver_ar import PerceiverAR
from perceiver_jax.core.perceiver_ar_config import PerceiverARConfig
from perceiver_jax.core.tokens import Tokens

__all__ = [
    "MLP",
    "AttentionConfig",
    "CrossAttentionLayer",
    "DecoderConfig",
    "EncoderConfig",
    "MLPConfig",
    "MeanPoolHead",
    "MultiHeadAttention",
    "Perceiver",
    "PerceiverAR",
    "PerceiverARConfig",
    "PerceiverDecoder",
    "PerceiverEncoder",
    "PerceiverIO",
    "SelfAttentionBlock",
    "SelfAttentionLayer",
    "Tokens",
    "attend",
]
