"""Classification: class queries answered from the latents, or latents averaged."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import ClassificationOutputAdapter
from perceiver_jax.adapters.classification import Queries
from perceiver_jax.config import check_fields, part, setting
from perceiver_jax.core import DecoderConfig, MeanPoolHead, PerceiverDecoder
from perceiver_jax.core.linear import InitConfig, InitMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationDecoderConfig(DecoderConfig):
    """A decoder of class queries (Perceiver IO)."""

    num_classes: int = setting(100, "classes")
    num_output_queries: int = setting(1, "class queries; one gives [B, classes] logits")
    num_output_query_channels: int = setting(256, "channels of the class queries")
    output_queries: Queries = setting(
        "trainable", "'trainable', 'zeros' (a constant) or 'given' at every call"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanPoolDecoderConfig:
    """Latents averaged, then a linear layer (the original Perceiver)."""

    num_classes: int = setting(100, "classes")
    norm: bool = setting(
        False, "whether the mean is layer-normalised: lucidrains does, DeepMind does not"
    )
    layer_norm_epsilon: float = setting(1e-5, "added to the variance in that norm")
    init_method: InitMethod = setting("normal", "recipe of initial values, as in the encoder")
    init_scale: float | None = setting(None, "scale of the recipe, as in the encoder")

    def __post_init__(self):
        check_fields(self)


def classification_decoder(
    config: ClassificationDecoderConfig, *, num_latent_channels: int, rngs: nnx.Rngs
) -> PerceiverDecoder:
    """The query decoder that the config describes."""
    adapter = ClassificationOutputAdapter(
        num_classes=config.num_classes,
        num_output_query_channels=config.num_output_query_channels,
        num_output_queries=config.num_output_queries,
        output_queries=config.output_queries,
        init=config.init,
        rngs=rngs,
    )
    return PerceiverDecoder(
        output_adapter=adapter,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, DecoderConfig),
    )


def mean_pool_head(
    config: MeanPoolDecoderConfig, *, num_latent_channels: int, rngs: nnx.Rngs
) -> MeanPoolHead:
    """The pooling head that the config describes."""
    return MeanPoolHead(
        num_latent_channels=num_latent_channels,
        num_classes=config.num_classes,
        norm=config.norm,
        layer_norm_epsilon=config.layer_norm_epsilon,
        init=InitConfig(method=config.init_method, scale=config.init_scale),
        rngs=rngs,
    )
