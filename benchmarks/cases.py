"""The cases: which model does what, against whom; a case is added by one entry of `CASES`."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.workload import Data, Kind, Workload
from configs import mnist
from interop.formats import lucidrains
from perceiver_jax.config import from_dict
from perceiver_jax.models import (
    AnyModelConfig,
    CausalSequenceConfig,
    PerceiverConfig,
    ResamplerConfig,
    causal_bytes,
    idefics2_resampler,
    imagenet_fourier,
    language_perceiver,
    optical_flow_perceiver,
    video_perceiver,
)
from perceiver_jax.train.config import ExperimentConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model and what it is given.

    Attributes:
        config: what it is made of.
        data: what it takes.
        input_shape: [*grid, c] of one image, of two frames or of the frames of one clip, or [M] of
            the ids of one text or sequence.
    """

    config: AnyModelConfig
    data: Data
    input_shape: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        """Classes that it tells apart; of a language model, its vocabulary; of flow, none."""
        if isinstance(self.config, CausalSequenceConfig):
            return self.config.vocab_size
        if isinstance(self.config, ResamplerConfig):
            return 0
        encoder: Any = self.config.encoder
        decoder: Any = self.config.decoder
        if self.data == "frames":
            return 0
        if self.data == "clips":
            return encoder.num_classes
        return decoder.num_classes if self.data == "images" else decoder.vocab_size

    def tiny(self) -> "Model":
        """The same kind of model in a size that tests can afford."""
        if isinstance(self.config, CausalSequenceConfig):
            return _tiny_sequences(self.config)
        if isinstance(self.config, ResamplerConfig):
            return _tiny_features(self.config)
        encoder = self.config.encoder
        input_shape, of_encoder, of_decoder = TINY[self.data](self)
        num_blocks = min(2, encoder.num_self_attention_blocks)
        layers: dict[str, Any] = {
            "num_self_attention_layers_per_block": 1,
            "num_self_attention_blocks": num_blocks,
            "num_cross_attention_layers": min(num_blocks, encoder.num_cross_attention_layers),
        }
        config = PerceiverConfig(
            encoder=_smaller(encoder, layers | of_encoder),
            decoder=_smaller(self.config.decoder, of_decoder),
            num_latents=8,
            num_latent_channels=TINY_CHANNELS,
        )
        return dataclasses.replace(self, config=config, input_shape=input_shape)


TINY_CHANNELS = 16
Tiny = tuple[tuple[int, ...], dict[str, Any], dict[str, Any]]
"""Shape of an input, and the fields of encoder and decoder that go with it."""
TINY_PART = 64
"""Tiny sequences, and the numbers of their latents, are this part of the whole."""
NUM_CHUNKS = 128
"""Calls that DeepMind's video autoencoding colab, and Hugging Face's example, decode a clip in."""


def _tiny_images(model: Model) -> Tiny:
    shape = (8, 8, model.input_shape[-1])
    fields = {"image_shape": shape, "num_output_query_channels": TINY_CHANNELS}
    return shape, fields, fields


def _tiny_tokens(model: Model) -> Tiny:
    """As of images; query and key channels stay, as Hugging Face's decoder has no others."""
    num_tokens = 12
    fields = {
        "max_seq_len": num_tokens,
        "num_input_channels": TINY_CHANNELS,
        "num_cross_attention_v_channels": TINY_CHANNELS,
        "num_self_attention_v_channels": TINY_CHANNELS,
    }
    return (num_tokens,), fields, fields


def _tiny_frames(model: Model) -> Tiny:
    """Attentions of the decoder have the latents' channels, as in Hugging Face's code."""
    encoder = {"image_shape": (6, 8), "num_self_attention_heads": 2}
    decoder = {
        "num_cross_attention_qk_channels": TINY_CHANNELS,
        "num_cross_attention_v_channels": TINY_CHANNELS,
    }
    return (2, 6, 8, 3), encoder, decoder


def _tiny_clips(model: Model) -> Tiny:
    """Two pixels and one stretch of sound in a chunk; the numbers of frequencies stay."""
    shape = (2, 8, 16, model.input_shape[-1])
    config: Any = model.config
    num_samples = NUM_CHUNKS * config.encoder.samples_per_patch
    encoder = {"video_shape": shape, "num_samples": num_samples}
    decoder = {
        "num_cross_attention_qk_channels": TINY_CHANNELS,
        "num_cross_attention_v_channels": TINY_CHANNELS,
        "num_label_query_channels": TINY_CHANNELS,
        "num_output_channels": TINY_CHANNELS,
    }
    return shape, encoder, decoder


def _tiny_sequences(config: CausalSequenceConfig) -> Model:
    tiny = dataclasses.replace(
        config,
        max_seq_len=config.max_seq_len // TINY_PART,
        max_latents=config.max_latents // TINY_PART,
        num_channels=TINY_CHANNELS,
        num_heads=2,
        num_self_attention_layers=2,
        # With few channels, smaller values would have every new token be the same.
        init_scale=0.5,
    )
    return _of_sequences(tiny)


def _tiny_features(config: ResamplerConfig) -> Model:
    """Heads and the number of queries for each of their keys stay."""
    tiny = dataclasses.replace(
        config, num_latent_channels=TINY_CHANNELS, num_latents=4, num_layers=2, num_qk_channels=32
    )
    return _of_features(tiny, 12)


TINY: dict[Data, Callable[[Model], Tiny]] = {
    "images": _tiny_images,
    "tokens": _tiny_tokens,
    "frames": _tiny_frames,
    "clips": _tiny_clips,
}


def _smaller(half: Any, fields: Mapping[str, Any]) -> Any:
    """An encoder or decoder with those of the fields that it has."""
    known = {field.name for field in dataclasses.fields(half)}
    return dataclasses.replace(half, **{n: v for n, v in fields.items() if n in known})


def _imagenet_a() -> Model:
    """`imagenet_fourier` with exact GELU, as the PyTorch implementations have it."""
    config = imagenet_fourier(activation="gelu")
    decoder = dataclasses.replace(config.decoder, activation="gelu")
    return _of_images(dataclasses.replace(config, decoder=decoder), (224, 224, 3))


def _mnist() -> Model:
    """The model of `configs/mnist.py` without dropout."""
    config = from_dict(ExperimentConfig, mnist.get_config()).model
    halves = {
        "encoder": dataclasses.replace(config.encoder, dropout=0.0),
        "decoder": dataclasses.replace(config.decoder, dropout=0.0),
    }
    return _of_images(dataclasses.replace(config, **halves), (28, 28, 1))


def _lucidrains_readme() -> Model:
    """The first example in the README of perceiver-pytorch, without dropout."""
    arguments = {
        "input_channels": 3,
        "input_axis": 2,
        "num_freq_bands": 6,
        "max_freq": 10.0,
        "depth": 6,
        "num_latents": 256,
        "latent_dim": 512,
        "cross_heads": 1,
        "latent_heads": 8,
        "cross_dim_head": 64,
        "latent_dim_head": 64,
        "num_classes": 1000,
        "weight_tie_layers": False,
        "fourier_encode_data": True,
        "self_per_cross_attn": 2,
    }
    return _of_images(lucidrains.config(arguments), (224, 224, 3))


def _language_perceiver() -> Model:
    """`language_perceiver` with exact GELU, as the PyTorch implementations can have it."""
    config = language_perceiver(activation="gelu")
    decoder = dataclasses.replace(config.decoder, activation="gelu")
    return _of_tokens(dataclasses.replace(config, decoder=decoder))


def _language_perceiver_small() -> Model:
    """The same with its 26 layers, in two fifths of the channels and half of the sequence."""
    config = _language_perceiver().config
    encoder = dataclasses.replace(
        config.encoder,
        max_seq_len=1024,
        num_input_channels=384,
        num_cross_attention_v_channels=512,
        num_self_attention_v_channels=512,
    )
    decoder = dataclasses.replace(
        config.decoder, max_seq_len=1024, num_cross_attention_v_channels=384
    )
    return _of_tokens(
        dataclasses.replace(config, encoder=encoder, decoder=decoder, num_latent_channels=512)
    )


def _of_images(config: PerceiverConfig, input_shape: tuple[int, ...]) -> Model:
    return Model(config=config, data="images", input_shape=input_shape)


def _of_tokens(config: PerceiverConfig) -> Model:
    """A language model that is given as many tokens as it takes."""
    encoder: Any = config.encoder
    return Model(config=config, data="tokens", input_shape=(encoder.max_seq_len,))


def _causal_bytes() -> Model:
    """`causal_bytes` without dropout, with initial values by which new tokens vary."""
    return _of_sequences(causal_bytes(cross_attention_dropout=0.0, init_scale=0.1))


def _optical_flow() -> Model:
    """`optical_flow_perceiver` with exact GELU, whose last layer does not start at zero."""
    return _of_frames(optical_flow_perceiver(activation="gelu"))


def _optical_flow_small() -> Model:
    """The same on frames of 96×128 with 512 latents and 6 layers: a step that fits into memory."""
    config = optical_flow_perceiver(
        activation="gelu", image_shape=(96, 128), num_self_attention_layers_per_block=6
    )
    return _of_frames(dataclasses.replace(config, num_latents=512))


def _of_frames(config: PerceiverConfig) -> Model:
    encoder: Any = config.encoder
    decoder = dataclasses.replace(config.decoder, activation="gelu", output_init_scale=None)
    config = dataclasses.replace(config, decoder=decoder)
    return Model(config=config, data="frames", input_shape=(2, *encoder.image_shape, 3))


def _video_autoencoding() -> Model:
    """`video_perceiver` with exact GELU, as Hugging Face's code has it.

    By smaller initial values, all latents would be alike, and so all pixels of all clips.
    """
    config = video_perceiver(activation="gelu", latent_init_scale=1.0)
    encoder: Any = config.encoder
    decoder = dataclasses.replace(config.decoder, activation="gelu", init_scale=2.0)
    config = dataclasses.replace(config, decoder=decoder)
    return Model(config=config, data="clips", input_shape=encoder.video_shape)


def _resampler() -> Model:
    """The resampler of Idefics2 in a quarter of the channels: 980×980 pixels in patches of 14."""
    config = dataclasses.replace(idefics2_resampler(), num_latent_channels=1024)
    return _of_features(config, 4900)


def _of_features(config: ResamplerConfig, num_features: int) -> Model:
    shape = (num_features, config.num_latent_channels)
    return Model(config=config, data="features", input_shape=shape)


def _of_sequences(config: CausalSequenceConfig) -> Model:
    return Model(config=config, data="sequences", input_shape=(config.max_seq_len,))


MODELS = {
    "imagenet_a": _imagenet_a(),
    "mnist": _mnist(),
    "lucidrains_readme": _lucidrains_readme(),
    "language_perceiver": _language_perceiver(),
    "language_perceiver_small": _language_perceiver_small(),
    "causal_bytes": _causal_bytes(),
    "optical_flow": _optical_flow(),
    "optical_flow_small": _optical_flow_small(),
    "video_autoencoding": _video_autoencoding(),
    "resampler": _resampler(),
}
"""Models by the names that cases call them."""


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A part of a sequence that grows.

    Attributes:
        num_prompt_tokens: tokens that are there.
        num_latents: latents at the end of these.
        num_new_tokens: tokens that are decoded, after the first.
    """

    num_prompt_tokens: int
    num_latents: int
    num_new_tokens: int = 0

    def tiny(self) -> "Stretch":
        """That of a tiny model."""
        numbers = dataclasses.astuple(self)
        return Stretch(*(-(-number // TINY_PART) for number in numbers))


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        model: a name in `MODELS`.
        kind: what is done, see `workload.Kind`.
        batch_size: inputs B at a time.
        peer: a name in `peers.PEERS`.
        must: smallest ratio of times, the peer's over ours, that will do; None: for information.
        aim: the ratio that is aimed at.
        stretch: of a sequence, for `prefill` and `decode`.
    """

    model: str
    kind: Kind
    batch_size: int
    peer: str
    must: float | None = None
    aim: float | None = None
    stretch: Stretch | None = None

    @property
    def name(self) -> str:
        """What reports and patterns call it."""
        kind: str = self.kind
        if self.stretch is not None and self.stretch.num_new_tokens:
            kind += f"_{self.stretch.num_prompt_tokens}+{self.stretch.num_new_tokens}"
        return f"{self.model}/{kind}/b{self.batch_size}/{self.peer}"

    def tiny(self) -> "Case":
        """The same kind of work for a tiny model, two inputs at a time."""
        stretch = None if self.stretch is None else self.stretch.tiny()
        return dataclasses.replace(self, batch_size=2, stretch=stretch)

    def workload(self, model: Model) -> Workload:
        """What is done with the model in question, which may be a tiny one.

        Raises:
            ValueError: something other than `forward` is to be done with clips or features.
        """
        known: dict[str, Any] = {
            "kind": self.kind,
            "data": model.data,
            "num_classes": model.num_classes,
        }
        if isinstance(model.config, CausalSequenceConfig):
            most = model.config.max_latents
            stretch = self.stretch or Stretch(*model.input_shape, most)
            num_new, num_latents = stretch.num_new_tokens, stretch.num_latents
            return Workload(
                **known,
                input_shape=(self.batch_size, stretch.num_prompt_tokens),
                num_latents=num_latents,
                num_new_tokens=num_new,
                # When the latents are used up, each side goes on in its own way.
                num_alike=min(num_new, most - num_latents),
            )
        if model.data in ("clips", "features") and self.kind != "forward":
            raise ValueError(f"{self.name}: {model.data} have kind 'forward' alone")
        if model.data == "clips":
            known |= _chunks(model.config.encoder)
        return Workload(**known, input_shape=(self.batch_size, *model.input_shape))


def _chunks(encoder: Any) -> dict[str, Any]:
    """What a workload says of the sound of clips, and of the parts that they are decoded in."""
    num_pixels = math.prod(encoder.video_shape[:-1])
    num_stretches = encoder.num_samples // encoder.samples_per_patch
    return {
        "num_samples": encoder.num_samples,
        "chunk_sizes": (num_pixels // NUM_CHUNKS, num_stretches // NUM_CHUNKS),
    }


CASES = (
    Case("imagenet_a", "cross_attention", 1, "krasserm", must=5, aim=8),
    Case("imagenet_a", "cross_attention", 1, "krasserm_sdpa"),
    Case("imagenet_a", "forward", 1, "krasserm", must=1.0, aim=1.15),
    Case("imagenet_a", "forward", 1, "huggingface", must=1.0, aim=1.15),
    Case("imagenet_a", "forward", 1, "krasserm_sdpa"),
    Case("imagenet_a", "train_step", 1, "krasserm", must=0.75, aim=1.0),
    Case("imagenet_a", "train_step", 4, "krasserm", must=0.75, aim=1.0),
    Case("mnist", "train_step", 64, "krasserm", must=1.7, aim=2.5),
    Case("mnist", "train_step", 128, "krasserm", must=1.7, aim=2.5),
    Case("lucidrains_readme", "forward", 1, "lucidrains", must=1.0, aim=1.5),
    Case("lucidrains_readme", "train_step", 1, "lucidrains", must=1.0, aim=1.5),
    Case("language_perceiver", "forward", 1, "krasserm", must=0.95, aim=1.1),
    Case("language_perceiver", "forward", 1, "huggingface", must=0.95, aim=1.1),
    Case("language_perceiver", "train_step", 1, "krasserm"),
    Case("language_perceiver", "train_step", 1, "huggingface"),
    Case("language_perceiver_small", "train_step", 4, "krasserm", must=0.9, aim=1.1),
    Case("language_perceiver_small", "train_step", 4, "huggingface", must=0.9, aim=1.1),
    Case("causal_bytes", "train_step", 1, "krasserm", must=1.0, aim=1.3),
    Case("causal_bytes", "train_step", 4, "krasserm", must=1.0, aim=1.3),
    Case("causal_bytes", "prefill", 1, "krasserm", 1.0, 1.5, Stretch(4096, 512)),
    Case("causal_bytes", "decode", 1, "krasserm", 1.7, 4, Stretch(1024, 1, 128)),
    Case("causal_bytes", "decode", 1, "krasserm", 1.7, 4, Stretch(2048, 1, 128)),
    # The cache is made anew after the first half of them: what generation costs in the long run.
    Case("causal_bytes", "decode", 1, "krasserm", 1.7, 4, Stretch(2048, 256, 512)),
    Case("causal_bytes", "decode", 8, "krasserm", 4, 8, Stretch(1024, 1, 32)),
    Case("causal_bytes", "decode", 8, "krasserm", 4, 8, Stretch(2048, 1, 32)),
    Case("optical_flow", "forward", 1, "krasserm", must=2, aim=3),
    Case("optical_flow", "forward", 1, "huggingface", must=2, aim=3),
    Case("optical_flow_small", "train_step", 1, "krasserm", must=1.0, aim=1.5),
    Case("optical_flow_small", "train_step", 1, "huggingface", must=1.0, aim=1.5),
    # A 128th of the clip comes out; both sides encode all of it for that.
    Case("video_autoencoding", "forward", 1, "huggingface", must=1.0, aim=1.5),
    Case("resampler", "forward", 1, "huggingface", must=1.0, aim=1.5),
)
