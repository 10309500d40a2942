"""The architecture itself: attention, positions, tokens, encoder, decoder. Knows no modality."""

from perceiver_jax.core.attention import MultiHeadAttention
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.computed_latents import LatentsFromTokens
from perceiver_jax.core.cross_attention import CrossAttentionLayer, Prepared
from perceiver_jax.core.decoder import DecoderConfig, MeanPoolHead, PerceiverDecoder
from perceiver_jax.core.dense import attend
from perceiver_jax.core.encoder import PerceiverEncoder
from perceiver_jax.core.encoder_config import EncoderConfig
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.mlp import MLP, MLPConfig
from perceiver_jax.core.perceiver import Perceiver, PerceiverIO
from perceiver_jax.core.perceiver_ar import PerceiverAR
from perceiver_jax.core.perceiver_ar_config import PerceiverARConfig
from perceiver_jax.core.relations import followed_by
from perceiver_jax.core.resampler import PerceiverResampler, ResamplerConfig
from perceiver_jax.core.rotary_time import RotaryTimeConfig
from perceiver_jax.core.self_attention import SelfAttentionBlock, SelfAttentionLayer
from perceiver_jax.core.tokens import Tokens

__all__ = [
    "MLP",
    "AttentionConfig",
    "CrossAttentionLayer",
    "DecoderConfig",
    "EncoderConfig",
    "InitConfig",
    "LatentsFromTokens",
    "MLPConfig",
    "MeanPoolHead",
    "MultiHeadAttention",
    "Perceiver",
    "PerceiverAR",
    "PerceiverARConfig",
    "PerceiverDecoder",
    "PerceiverEncoder",
    "PerceiverIO",
    "PerceiverResampler",
    "Prepared",
    "ResamplerConfig",
    "RotaryTimeConfig",
    "SelfAttentionBlock",
    "SelfAttentionLayer",
    "Tokens",
    "attend",
    "followed_by",
]
