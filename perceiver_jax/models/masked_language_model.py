"""Masked language models: token ids with gaps to logits at every position.

- The published DeepMind model of UTF-8 bytes is at the end.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.config import ConfigError
from perceiver_jax.core import PerceiverIO
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.release import Releasable
from perceiver_jax.models.text_decoder import TextDecoderConfig, text_decoder
from perceiver_jax.models.text_encoder import TextEncoderConfig, text_encoder
from perceiver_jax.typing import Array


class MaskedLanguageModel(PerceiverIO, Releasable):
    """Perceiver IO from token ids [B, M] and their mask [B, M] to logits [B, M, vocab_size].

    Args:
        config: with a `TextEncoderConfig` and a `TextDecoderConfig`.
        rngs: where initial values come from.

    Raises:
        ConfigError: the halves do not go together.

    Source: Perceiver IO §4.1; deepmind language colab, krasserm `MaskedLanguageModel`.
    Differs: only as many queries are asked as there are tokens; DeepMind pads to `max_seq_len`, and
    the PyTorch libraries ask all queries and drop the last.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, TextEncoderConfig, "MaskedLanguageModel")
        decoder = check_half(config.decoder, TextDecoderConfig, "MaskedLanguageModel")
        _check_together(encoder, decoder)
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        super().__init__(
            text_encoder(encoder, num_latents=config.num_latents, **latents),
            text_decoder(decoder, num_embedding_channels=encoder.num_input_channels, **latents),
        )


def _check_together(encoder: TextEncoderConfig, decoder: TextDecoderConfig) -> None:
    if decoder.vocab_size != encoder.vocab_size:
        raise ConfigError(
            f"the encoder has vocab_size={encoder.vocab_size}, the decoder {decoder.vocab_size}; a "
            "masked language model predicts the tokens that it reads, so make them equal"
        )
    if decoder.max_seq_len < encoder.max_seq_len:
        raise ConfigError(
            f"the encoder takes max_seq_len={encoder.max_seq_len} tokens, the decoder has queries "
            f"for {decoder.max_seq_len}; make them equal"
        )
    channels = decoder.num_output_query_channels
    if decoder.output_queries == "inputs" and channels not in (None, encoder.num_input_channels):
        raise ConfigError(
            f"output_queries='inputs' asks with the encoder's embedded tokens of "
            f"{encoder.num_input_channels} channels; set num_output_query_channels to that, or to "
            "None, not to "
            f"{channels}"
        )


@functools.partial(jax.jit, static_argnames="k")
def top_tokens(model: Any, ids: Array, input_mask: Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The most probable tokens at every position.

    Args:
        model: a masked language model.
        ids: [B, M] token ids.
        input_mask: [B, M] bool, True = a token.
        k: how many.

    Returns:
        [B, M, k] ids, the most probable first, and their probabilities.
    """
    logits = model(ids, input_mask)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    probabilities, tokens = jax.lax.top_k(jax.nn.softmax(logits), k)
    return tokens, probabilities


def language_perceiver(**encoder_fields: Any) -> PerceiverConfig:
    """DeepMind's masked language model of UTF-8 bytes: 201,108,230 parameters.

    Source: Perceiver IO tables 1 and 11, appendix F; deepmind `language_perceiver_io_bytes`.
    """
    common: dict[str, Any] = {
        "vocab_size": 262,
        "max_seq_len": 2048,
        "num_cross_attention_qk_channels": 256,
        "num_cross_attention_heads": 8,
        "activation": "gelu_tanh",
        "init_method": "variance_scaling",
    }
    encoder: dict[str, Any] = {
        "num_input_channels": 768,
        "num_cross_attention_v_channels": 1280,
        "num_self_attention_qk_channels": 256,
        "num_self_attention_v_channels": 1280,
        "num_self_attention_heads": 8,
        "num_self_attention_layers_per_block": 26,
    }
    return PerceiverConfig(
        encoder=TextEncoderConfig(**(common | encoder | encoder_fields)),
        decoder=TextDecoderConfig(
            num_cross_attention_v_channels=768, cross_attention_residual=False, **common
        ),
        num_latents=256,
        num_latent_channels=1280,
    )
