"""Encoders of text: token ids, embedded with their positions."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import TokenInputAdapter
from perceiver_jax.adapters.input_arrays import FreeSize, InputArray, InputArrays, mask_of
from perceiver_jax.config import part, setting
from perceiver_jax.core import EncoderConfig, PerceiverEncoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoderConfig(EncoderConfig):
    """An encoder of token ids [B, M]."""

    vocab_size: int = setting(262, "token ids are 0 to this - 1; 262 is that of UTF-8 bytes")
    max_seq_len: int = setting(256, "most tokens of an example")
    num_input_channels: int = setting(64, "channels C of embedded tokens")

    def __post_init__(self):
        super().__post_init__()
        for name in ("vocab_size", "max_seq_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    def input_arrays(self) -> InputArrays:
        """What the model is called with."""
        tokens = FreeSize("tokens", self.max_seq_len)
        return {
            "inputs": InputArray(
                shape=(tokens,),
                dtype="int32",
                meaning="token ids; what is shorter is padded on the right",
                least=0,
                most=self.vocab_size - 1,
            ),
            "input_mask": mask_of(tokens),
        }


def text_encoder(
    config: TextEncoderConfig, *, num_latents: int, num_latent_channels: int, rngs: nnx.Rngs
) -> PerceiverEncoder:
    """The encoder that the config describes."""
    adapter = TokenInputAdapter(
        vocab_size=config.vocab_size,
        max_seq_len=config.max_seq_len,
        num_input_channels=config.num_input_channels,
        init=config.init,
        rngs=rngs,
    )
    return PerceiverEncoder(
        input_adapter=adapter,
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, EncoderConfig),
    )
