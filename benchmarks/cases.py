"""The cases: which model does what, against whom; a case is added by one entry of `CASES`."""

import dataclasses
from typing import Any

from benchmarks.workload import Kind, Workload
from configs import mnist
from interop.formats import lucidrains
from perceiver_jax.config import from_dict
from perceiver_jax.models import PerceiverConfig, imagenet_fourier
from perceiver_jax.train.config import ExperimentConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model and what it is given.

    Attributes:
        config: what it is made of.
        input_shape: [*grid, c] of one input.
    """

    config: PerceiverConfig
    input_shape: tuple[int, ...]

    def tiny(self) -> "Model":
        """The same kind of model in a size that tests can afford."""
        encoder, decoder = self.config.encoder, self.config.decoder
        input_shape = (8, 8, self.input_shape[-1])
        num_blocks = min(2, encoder.num_self_attention_blocks)
        smaller: dict[str, Any] = {
            "num_self_attention_layers_per_block": 1,
            "num_self_attention_blocks": num_blocks,
            "num_cross_attention_layers": min(num_blocks, encoder.num_cross_attention_layers),
        }
        if hasattr(encoder, "image_shape"):
            smaller["image_shape"] = input_shape
        queries = {}
        if hasattr(decoder, "num_output_query_channels"):
            queries = {"num_output_query_channels": 16}
        config = PerceiverConfig(
            encoder=dataclasses.replace(encoder, **smaller),
            decoder=dataclasses.replace(decoder, **queries),
            num_latents=8,
            num_latent_channels=16,
        )
        return Model(config=config, input_shape=input_shape)


def _imagenet_a() -> Model:
    """`imagenet_fourier` with exact GELU, as the PyTorch implementations have it."""
    config = imagenet_fourier(activation="gelu")
    decoder = dataclasses.replace(config.decoder, activation="gelu")
    return Model(config=dataclasses.replace(config, decoder=decoder), input_shape=(224, 224, 3))


def _mnist() -> Model:
    """The model of `configs/mnist.py` without dropout."""
    config = from_dict(ExperimentConfig, mnist.get_config()).model
    halves = {
        "encoder": dataclasses.replace(config.encoder, dropout=0.0),
        "decoder": dataclasses.replace(config.decoder, dropout=0.0),
    }
    return Model(config=dataclasses.replace(config, **halves), input_shape=(28, 28, 1))


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
    return Model(config=lucidrains.config(arguments), input_shape=(224, 224, 3))


MODELS = {
    "imagenet_a": _imagenet_a(),
    "mnist": _mnist(),
    "lucidrains_readme": _lucidrains_readme(),
}
"""Models by the names that cases call them."""


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
    """

    model: str
    kind: Kind
    batch_size: int
    peer: str
    must: float | None = None
    aim: float | None = None

    @property
    def name(self) -> str:
        """What reports and patterns call it."""
        return f"{self.model}/{self.kind}/b{self.batch_size}/{self.peer}"

    def workload(self, model: Model) -> Workload:
        """What is done with the model in question, which may be a tiny one."""
        decoder: Any = model.config.decoder
        return Workload(
            kind=self.kind,
            input_shape=(self.batch_size, *model.input_shape),
            num_classes=decoder.num_classes,
        )


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
)
