"""Their decoder of one class query, for images and texts alike.

- Everything but its residual, which is always there, follows from the latents.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.huggingface.config_json import layer_fields
from interop.formats.huggingface.layers import cross_layer
from interop.formats.torch_layers import linear
from interop.rows import Row, row
from perceiver_jax.models import ClassificationDecoderConfig

THEIRS = "perceiver.decoder.decoder"


def fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of our `ClassificationDecoderConfig` from complete settings."""
    return {
        **layer_fields(settings),
        "num_classes": settings["num_labels"],
        "num_output_query_channels": settings["d_latents"],
        "num_cross_attention_heads": 1,
    }


def requirements(
    decoder: ClassificationDecoderConfig, num_latent_channels: int
) -> dict[str, tuple[Any, Any]]:
    """Settings that cannot be chosen, as (value, the one it has to be)."""
    query_channels = decoder.num_output_query_channels
    qk_channels = decoder.num_cross_attention_qk_channels or query_channels
    v_channels = decoder.num_cross_attention_v_channels or qk_channels
    return {
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.num_output_queries": (decoder.num_output_queries, 1),
        "decoder.num_output_query_channels": (query_channels, num_latent_channels),
        "decoder.num_cross_attention_heads": (decoder.num_cross_attention_heads, 1),
        "decoder.num_cross_attention_qk_channels": (qk_channels, num_latent_channels),
        "decoder.num_cross_attention_v_channels": (v_channels, num_latent_channels),
        "decoder.cross_attention_widening_factor": (decoder.cross_attention_widening_factor, 1),
        "decoder.cross_attention_residual": (decoder.cross_attention_residual, True),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
    }


def rows() -> list[Row]:
    """A `PerceiverClassificationDecoder`."""
    return [
        *cross_layer("decoder/cross_attention", f"{THEIRS}.decoding_cross_attention"),
        row(
            "decoder/output_adapter/queries",
            f"{THEIRS}.output_position_encodings.position_embeddings",
        ),
        *linear("decoder/output_adapter/linear", f"{THEIRS}.final_layer"),
    ]
