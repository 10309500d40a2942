"""Causal sequence models: token ids of text, music or anything else to what follows.

- The sizes of krasserm/perceiver-io's examples are at the end.
"""

import dataclasses
from typing import Any

from flax import nnx

from perceiver_jax.adapters import TiedLogits, TokenInputAdapter
from perceiver_jax.config import part, setting
from perceiver_jax.core import PerceiverAR, PerceiverARConfig
from perceiver_jax.models.release import Releasable


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalSequenceConfig(PerceiverARConfig):
    """A Perceiver AR over a vocabulary, whose embedding also makes the logits.

    Source: krasserm `CausalSequenceModelConfig`.
    """

    vocab_size: int = setting(262, "tokens; 262 is the vocabulary of UTF-8 bytes")
    max_seq_len: int = setting(4096, "most tokens of an example: prefix and latents")
    abs_pos_emb: bool = setting(True, "whether an embedding of the position is added to a token")
    output_bias: bool = setting(True, "whether a bias is added to the logits")

    def __post_init__(self):
        super().__post_init__()
        if self.vocab_size < 1:
            raise ValueError(f"vocab_size={self.vocab_size} must be 1 or more")
        turned = self.num_turned(embedded=self.abs_pos_emb)
        if turned % 2:
            raise ValueError(
                f"rotary positions turn pairs of channels, and {turned} channels of a head are to "
                f"be turned (num_channels={self.num_channels}, num_heads={self.num_heads}, "
                f"abs_pos_emb={self.abs_pos_emb}); set rotary_channels to an even number"
            )
        if not 1 <= self.max_latents <= self.max_seq_len:
            raise ValueError(
                f"max_latents={self.max_latents} is not between 1 and max_seq_len="
                f"{self.max_seq_len}: latents are the last tokens of a sequence"
            )


class CausalSequenceModel(PerceiverAR, Releasable):
    """Perceiver AR from token ids [B, M] to logits [B, num_latents, vocab_size].

    Args:
        config: see `CausalSequenceConfig`.
        rngs: where initial values come from.

    Source: Perceiver AR §3; krasserm `CausalSequenceModel`.
    """

    config: CausalSequenceConfig

    def __init__(self, config: CausalSequenceConfig, *, rngs: nnx.Rngs):
        self.config = config
        super().__init__(
            PerceiverARConfig(**part(config, PerceiverARConfig)),
            input_adapter=TokenInputAdapter(
                vocab_size=config.vocab_size,
                max_seq_len=config.max_seq_len,
                num_input_channels=config.num_channels,
                abs_pos_emb=config.abs_pos_emb,
                init=config.init,
                rngs=rngs,
            ),
            output_adapter=TiedLogits(vocab_size=config.vocab_size, bias=config.output_bias),
            rngs=rngs,
        )


def causal_bytes(**fields: Any) -> CausalSequenceConfig:
    """The language model of UTF-8 bytes trained on WikiText-103: 30,563,078 parameters.

    Source: krasserm `examples/training/clm`, model 1.
    """
    return CausalSequenceConfig(**fields)


def causal_subwords(**fields: Any) -> CausalSequenceConfig:
    """The language model of 32,000 subwords trained on C4: 453,950,720 parameters.

    Source: krasserm `examples/training/clm`, model 2.
    """
    common: dict[str, Any] = {
        "vocab_size": 32_000,
        "max_seq_len": 1024,
        "num_channels": 1280,
        "num_heads": 10,
        "num_self_attention_layers": 20,
        "cross_attention_dropout": 0.0,
        "output_norm": True,
        "output_bias": False,
        "abs_pos_emb": False,
    }
    return CausalSequenceConfig(**(common | fields))


def symbolic_audio_maestro(**fields: Any) -> CausalSequenceConfig:
    """The model of piano performances trained on MAESTRO v3: 28,531,712 parameters.

    Source: krasserm `examples/training/sam/maestrov3`.
    """
    return _symbolic_audio({"max_seq_len": 2048, "max_latents": 1024}, fields)


def symbolic_audio_giantmidi(**fields: Any) -> CausalSequenceConfig:
    """The model of piano performances trained on GiantMIDI-Piano: 134,840,832 parameters.

    Source: krasserm `examples/training/sam/giantmidi`.
    """
    sizes: dict[str, Any] = {
        "max_seq_len": 6144,
        "max_latents": 2048,
        "num_channels": 768,
        "num_self_attention_layers": 18,
    }
    return _symbolic_audio(sizes, fields)


def _symbolic_audio(sizes: dict[str, Any], fields: dict[str, Any]) -> CausalSequenceConfig:
    common: dict[str, Any] = {
        "vocab_size": 389,
        "cross_attention_dropout": 0.1,
        "dropout": 0.1,
        "residual_dropout": 0.1,
        "output_norm": True,
        "output_bias": False,
        "abs_pos_emb": False,
        "remat": True,
    }
    return CausalSequenceConfig(**(common | sizes | fields))
