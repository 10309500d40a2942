"""Video, sound and label through one bottleneck of latents, and back.

- The published DeepMind model is at the end.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from perceiver_jax.core.arguments import known_arguments
from perceiver_jax.core.dropout import split
from perceiver_jax.core.perceiver import Recordable, chosen
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.release import Releasable
from perceiver_jax.models.video_decoder import VideoDecoderConfig, video_decoder
from perceiver_jax.models.video_encoder import VideoEncoderConfig, video_encoder
from perceiver_jax.typing import Array, Key


class VideoAutoencoder(Recordable, Releasable):
    """Perceiver IO from clips to clips and the classes that they might be of.

    Args:
        config: with a `VideoEncoderConfig` and a `VideoDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver IO §4.3; deepmind video autoencoding colab.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, VideoEncoderConfig, "VideoAutoencoder")
        decoder = check_half(config.decoder, VideoDecoderConfig, "VideoAutoencoder")
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        self.encoder = video_encoder(encoder, num_latents=config.num_latents, **latents)
        self.decoder = video_decoder(decoder, encoder, **latents)

    @known_arguments()
    def __call__(
        self,
        inputs: Mapping[str, Any],
        *,
        query_indices: Mapping[str, Array] | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> dict[str, jax.Array]:
        """Reconstructs.

        Args:
            inputs: by modality: `image`, frames [B, T, H, W, c] in [0, 1]; `audio`, waveforms
                [B, S, 1] in [-1, 1]; `label`, [B] classes or [B, K] distributions. What is missing
                or None is hidden from the model, which is something that it has learned to do
                without only where its mask rate is above 0.
            query_indices: by modality, [B, o] or [1, o] which of its queries are asked, counted
                row by row: pixels of the video, stretches of the sound; all of those that are not
                named. An index beyond the last is refused, or gives NaN under `jax.jit`.
            key: random key, which hides and drops; None means inference.
            tape: records intermediates.

        Returns:
            `image` [B, T, H, W, c] colours, or [B, o, c] of those asked; `audio` [B, S, 1], or
            [B, o, samples_per_patch]; `label` [B, K] logits.

        Raises:
            ValueError: a modality is unknown, or has another shape than the model was built for.
        """
        encoder_key, decoder_key = split(key, 2)
        latents = self.encoder(inputs, key=encoder_key, tape=tape.at("encoder"))
        return self.decode(latents, query_indices=query_indices, key=decoder_key, tape=tape)

    def decode(
        self,
        latents: Array,
        *,
        query_indices: Mapping[str, Array] | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> dict[str, jax.Array]:
        """[B, N, D] latents → what the call returns."""
        adapter, indices = self.decoder.output_adapter, dict(query_indices or {})
        if unknown := indices.keys() - set(adapter.names):
            raise ValueError(f"{sorted(unknown)} name no modality; there are {adapter.names}")
        outputs = {}
        for name, one in zip(adapter.names, split(key, len(adapter.names)), strict=True):
            queries, some = adapter.queries(name), indices.get(name)
            at = tape.at(f"decoder/{name}")
            answered = self.decoder.answer(
                latents,
                queries if some is None else chosen(queries, some),
                finish=adapter.finish(name),
                key=one,
                tape=at,
            )
            at.stage("outputs", answered)
            outputs[name] = adapter.whole(name, answered) if some is None else answered
        return outputs

    def encode(self, inputs: Mapping[str, Any]) -> Array:
        """Modalities by name → [B, N, D] latents, without dropout."""
        return self.encoder(inputs)


def video_perceiver(**encoder_fields: Any) -> PerceiverConfig:
    """DeepMind's autoencoder of Kinetics: 19,858,855 parameters.

    Source: Perceiver IO appendix I; deepmind `video_autoencoding_checkpoint`.
    """
    common: dict[str, Any] = {
        "activation": "gelu_tanh",
        "init_method": "variance_scaling",
        "num_cross_attention_heads": 1,
    }
    encoder: dict[str, Any] = {
        "num_self_attention_heads": 8,
        "num_self_attention_layers_per_block": 8,
    }
    return PerceiverConfig(
        encoder=VideoEncoderConfig(**(common | encoder | encoder_fields)),
        decoder=VideoDecoderConfig(
            num_cross_attention_qk_channels=512,
            num_cross_attention_v_channels=512,
            query_positions="half_open",
            **common,
        ),
        num_latents=784,
        num_latent_channels=512,
    )
