"""Causal sequence models: token ids of text, music, images or anything else to what follows.

- Published sizes are at the end: of krasserm/perceiver-io's examples and of perceiver-ar.
"""

import dataclasses
from typing import Any

from flax import nnx

from perceiver_jax.adapters import LinearLogits, SequenceEmbedding, TiedLogits
from perceiver_jax.adapters.input_arrays import FreeSize, InputArray, InputArrays, mask_of
from perceiver_jax.adapters.sequence import PositionTable
from perceiver_jax.config import part, setting
from perceiver_jax.core import PerceiverAR, PerceiverARConfig
from perceiver_jax.models.release import Releasable


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalSequenceConfig(PerceiverARConfig):
    """A Perceiver AR over a vocabulary.

    Source: krasserm `CausalSequenceModelConfig`; perceiver-ar `PerceiverAR`; lucidrains
    `PerceiverAR`.
    """

    vocab_size: int = setting(262, "tokens; 262 is the vocabulary of UTF-8 bytes")
    max_seq_len: int = setting(4096, "most tokens of an example: prefix and latents")
    abs_pos_emb: bool = setting(True, "whether an embedding of the position is added to a token")
    position_shape: tuple[int, ...] | None = setting(
        None,
        "sizes of the tables of positions, whose rows are summed: several for several indices, as "
        "row, column and channel; None: one of max_seq_len",
    )
    position_table: PositionTable = setting(
        "random", "what tables start from: 'random', 'sinusoidal' or 'fourier' features"
    )
    train_positions: bool = setting(True, "whether tables of positions are learned")
    tied_logits: bool = setting(
        True, "whether logits are made with the embedding of tokens, or by a layer of their own"
    )
    zero_logits: bool = setting(False, "whether a layer of their own starts at zero")
    output_bias: bool = setting(True, "whether a bias is added to the logits")

    def __post_init__(self):
        super().__post_init__()
        if self.vocab_size < 1:
            raise ValueError(f"vocab_size={self.vocab_size} must be 1 or more")
        if not 1 <= self.max_latents <= self.max_seq_len:
            raise ValueError(
                f"max_latents={self.max_latents} is not between 1 and max_seq_len="
                f"{self.max_seq_len}: latents are the last tokens of a sequence"
            )
        if self.tied_logits and self.input_channels != self.num_channels:
            raise ValueError(
                f"logits of {self.num_channels} channels cannot be tied to embeddings of "
                f"{self.input_channels}; set tied_logits=False"
            )
        if self.tied_logits and self.zero_logits:
            raise ValueError("zero_logits=True has no meaning where logits are tied")
        self._check_turned()
        self._check_tables()

    @property
    def fixed(self) -> tuple[str, ...]:
        """Regular expressions of parameters that no training may change."""
        if not self.abs_pos_emb or self.train_positions:
            return ()
        return ("^input_adapter/position_embedding/",)

    def input_arrays(self) -> InputArrays:
        """What the model is called with."""
        tokens, shape = FreeSize("tokens", self.max_seq_len), self.position_shape or ()
        arrays = {
            "inputs": InputArray(
                shape=(tokens,),
                dtype="int32",
                meaning="token ids; what is shorter is padded on the left, so that the last logits "
                "are those of what follows",
                least=0,
                most=self.vocab_size - 1,
            ),
            "input_mask": mask_of(tokens),
        }
        if len(shape) > 1:
            arrays["positions"] = InputArray(
                shape=(tokens, len(shape)),
                dtype="int32",
                meaning=f"the index of each token in each of the tables of {list(shape)} positions",
                least=0,
                most=min(shape) - 1,
            )
        return arrays

    def _check_turned(self) -> None:
        for which, num_heads in (("cross", self.cross_heads), ("self", self.num_heads)):
            channels = self.qk_channels(which) // num_heads
            turned = self.num_turned(channels, embedded=self.abs_pos_emb)
            if not turned and self.rotary_fraction:
                raise ValueError(
                    f"rotary_fraction={self.rotary_fraction} turns no pair of the {channels} "
                    f"channels of a head of the {which}-attentions; set more, or 0.0"
                )
            if turned % 2:
                raise ValueError(
                    f"rotary positions turn pairs of channels, and {turned} of the {channels} "
                    f"channels of a head of the {which}-attentions are to be turned (abs_pos_emb="
                    f"{self.abs_pos_emb}); set rotary_fraction, or other channels or heads"
                )
            if turned and len(self.position_shape or (0,)) > 1:
                raise ValueError(
                    f"rotary positions take one index, and position_shape={self.position_shape} "
                    "has several; set rotary_fraction=0.0"
                )

    def _check_tables(self) -> None:
        shape = self.position_shape
        if not self.abs_pos_emb and (self.position_table != "random" or not self.train_positions):
            raise ValueError(
                f"position_table={self.position_table!r} and train_positions="
                f"{self.train_positions} have no meaning without abs_pos_emb"
            )
        if len(shape or (0,)) > 1 and (self.first_position or self.position_origin == "last"):
            raise ValueError(
                f"first_position={self.first_position} and position_origin="
                f"{self.position_origin!r} are about counted tokens, and positions of "
                f"position_shape={shape} are given; leave both out"
            )
        if shape is None:
            if self.first_position:
                raise ValueError(
                    f"first_position={self.first_position} goes with a table that has rows for it; "
                    f"set abs_pos_emb and position_shape="
                    f"({self.max_seq_len + self.first_position},), or 0"
                )
            return
        if not self.abs_pos_emb:
            raise ValueError("position_shape has no meaning without abs_pos_emb")
        if not shape or min(shape) < 1:
            raise ValueError(f"position_shape={shape} must be sizes of 1 or more")
        if len(shape) == 1 and shape[0] < self.max_seq_len + self.first_position:
            raise ValueError(
                f"position_shape={shape} has fewer positions than max_seq_len={self.max_seq_len} "
                f"tokens from first_position={self.first_position} take"
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
            input_adapter=SequenceEmbedding(
                vocab_size=config.vocab_size,
                max_seq_len=config.max_seq_len,
                num_input_channels=config.input_channels,
                abs_pos_emb=config.abs_pos_emb,
                position_shape=config.position_shape,
                position_table=config.position_table,
                train_positions=config.train_positions,
                init=config.init,
                rngs=rngs,
            ),
            output_adapter=_logits(config, rngs),
            rngs=rngs,
        )


def _logits(config: CausalSequenceConfig, rngs: nnx.Rngs) -> TiedLogits | LinearLogits:
    if config.tied_logits:
        return TiedLogits(vocab_size=config.vocab_size, bias=config.output_bias)
    return LinearLogits(
        vocab_size=config.vocab_size,
        num_channels=config.num_channels,
        bias=config.output_bias,
        zero=config.zero_logits,
        init=config.init,
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
        "remat": "full",
    }
    return CausalSequenceConfig(**(common | sizes | fields))


def ar_copy(seq_len: int, **fields: Any) -> CausalSequenceConfig:
    """DeepMind's model of mirrored random sequences.

    Args:
        seq_len: tokens of a sequence; published are 32 (26,810,627 parameters) and 131,072
            (223,976,707), each with its number of layers and latents.
        fields: changes to it.

    Source: perceiver-ar `experiment.py`, `random_mirrored_32` and `random_mirrored_131072`.
    """
    short = seq_len <= 32
    sizes: dict[str, Any] = {
        "max_seq_len": seq_len,
        "position_shape": (seq_len + 1,),
        "first_position": 1,
        "position_table": "sinusoidal",
        "train_positions": False,
        "max_latents": 16 if short else 1024,
        "num_self_attention_layers": 1 if short else 6,
        "rotary_fraction": 0.0,
    }
    return ar_rotary(**(sizes | fields))


def ar_imagenet64(**fields: Any) -> CausalSequenceConfig:
    """DeepMind's model of 64×64 images, channel by channel: 770,094,339 parameters.

    Source: perceiver-ar `experiment.py`, `imagenet_w_positions`.
    """
    sizes: dict[str, Any] = {
        "max_seq_len": 12_416,
        "position_shape": (66, 66, 5),
        "num_self_attention_layers": 60,
        "rotary_fraction": 0.0,
    }
    return ar_rotary(**(sizes | fields))


def ar_rotary(**fields: Any) -> CausalSequenceConfig:
    """DeepMind's Perceiver AR as its experiments have it, with rotary positions: 165,335,299.

    Source: perceiver-ar `experiment.py`.
    """
    common: dict[str, Any] = {
        "vocab_size": 259,
        "max_seq_len": 1024,
        "max_latents": 1024,
        "num_channels": 1024,
        "num_heads": 16,
        "num_self_attention_layers": 12,
        "num_self_attention_rotary_layers": -1,
        "initial_queries": "linear",
        "cross_attention_keys": "inputs",
        "cross_attention_dropout": 0.0,
        "residual_dropout": 0.1,
        "activation": "squared_relu",
        "qkv_bias": True,
        "mlp_bias": True,
        "self_attention_out_bias": True,
        "output_norm": True,
        "tied_logits": False,
        "zero_logits": True,
        "rotary_fraction": 0.5,
        "rotary_frequencies": "closed",
        "init_method": "variance_scaling",
    }
    config = common | fields
    config.setdefault("rotary_max_wavelength", float(config["max_seq_len"]))
    config.setdefault("abs_pos_emb", config["rotary_fraction"] == 0.0)
    return CausalSequenceConfig(**config)
