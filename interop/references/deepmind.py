"""DeepMind's models, put together from Hugging Face's modules; Perceiver AR is in `deepmind_ar`.

- DeepMind's own code is no package that could be installed. Where the two part, this is DeepMind's
  function: TensorFlow's padding, the tanh form of GELU, no decoder residual where there is none,
  and zeros for what is masked. The files made with DeepMind's code prove it
  (tests/parity/test_huggingface.py, tests/parity/test_deepmind_text_reference.py,
  tests/parity/test_video_autoencoder.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.formats import deepmind
from interop.formats.channels import num_input_channels
from interop.formats.families import family_of
from interop.formats.huggingface import (
    image_classifier,
    masked_language_model,
    optical_flow,
    video_autoencoder,
)
from interop.formats.huggingface.config_json import encoder_settings
from interop.references import deepmind_ar, huggingface
from interop.references.huggingface import exact_positions, quiet, transformers_perceiver
from interop.references.torch_stages import Stages, load_arrays
from interop.rows import load, save
from perceiver_jax.adapters.conv_stem import stem_grid
from perceiver_jax.models import (
    CausalSequenceConfig,
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
    VideoDecoderConfig,
    VideoEncoderConfig,
    skeleton,
)
from perceiver_jax.models.perceiver_config import check_half

FAMILIES = (image_classifier, masked_language_model, optical_flow, video_autoencoder)
"""Those of Hugging Face's models that DeepMind has as well."""


def build(settings: Mapping[str, Any]) -> Any:
    """A model with random weights, in eval mode.

    Args:
        settings: arguments of DeepMind's modules, as `deepmind.config` takes them.

    Raises:
        ReferenceMissing: transformers is not installed; Perceiver AR needs none.
    """
    config = deepmind.config(settings)
    if isinstance(config, CausalSequenceConfig):
        return deepmind_ar.build(settings)
    modeling = transformers_perceiver()
    import torch

    model = torch.nn.Module()
    with quiet():
        ADD[type(config.encoder)](model, modeling, config)
    return exact_positions(model.eval())


def _add_image_classifier(model: Any, modeling: Any, config: PerceiverConfig) -> None:
    encoder = check_half(config.encoder, ImageEncoderConfig, deepmind.WHOSE)
    decoder = check_half(config.decoder, ClassificationDecoderConfig, deepmind.WHOSE)
    channels = decoder.num_output_query_channels
    common = modeling.PerceiverConfig(
        **encoder_settings(config, num_input_channels(encoder)),
        num_labels=decoder.num_classes,
    )
    preprocessor = modeling.PerceiverImagePreprocessor(common, **_preprocessor(encoder))
    if encoder.preprocessing == "conv":
        _pad_as_tensorflow(preprocessor.convnet)
    model.perceiver = modeling.PerceiverModel(
        common,
        input_preprocessor=preprocessor,
        decoder=modeling.PerceiverClassificationDecoder(
            common,
            num_channels=channels,
            num_heads=decoder.num_cross_attention_heads,
            qk_channels=decoder.num_cross_attention_qk_channels or channels,
            v_channels=decoder.num_cross_attention_v_channels,
            use_query_residual=decoder.cross_attention_residual,
            trainable_position_encoding_kwargs={"num_channels": channels, "index_dims": 1},
        ),
    )
    _mask_as_deepmind(model.perceiver)


def _add_language_model(model: Any, modeling: Any, config: PerceiverConfig) -> None:
    encoder = check_half(config.encoder, TextEncoderConfig, deepmind.WHOSE)
    decoder = check_half(config.decoder, TextDecoderConfig, deepmind.WHOSE)
    channels, max_seq_len = encoder.num_input_channels, encoder.max_seq_len
    common = modeling.PerceiverConfig(
        **encoder_settings(config, channels),
        vocab_size=encoder.vocab_size,
        max_position_embeddings=max_seq_len,
    )
    model.perceiver = modeling.PerceiverModel(
        common,
        input_preprocessor=modeling.PerceiverTextPreprocessor(common),
        decoder=modeling.PerceiverBasicDecoder(
            common,
            output_num_channels=channels,
            output_index_dims=max_seq_len,
            num_channels=channels,
            num_heads=decoder.num_cross_attention_heads,
            qk_channels=decoder.num_cross_attention_qk_channels or channels,
            v_channels=decoder.num_cross_attention_v_channels,
            use_query_residual=decoder.cross_attention_residual,
            final_project=False,
            trainable_position_encoding_kwargs={
                "num_channels": channels,
                "index_dims": max_seq_len,
            },
        ),
    )
    model.embedding_decoder = modeling.PerceiverEmbeddingDecoder(common)
    _mask_as_deepmind(model.perceiver, model.perceiver.decoder.decoding_cross_attention)


def _add_optical_flow(model: Any, modeling: Any, config: PerceiverConfig) -> None:
    encoder = check_half(config.encoder, OpticalFlowEncoderConfig, deepmind.WHOSE)
    decoder = check_half(config.decoder, OpticalFlowDecoderConfig, deepmind.WHOSE)
    num_channels = num_input_channels(encoder)
    common = modeling.PerceiverConfig(**encoder_settings(config, num_channels))
    positions = {
        "num_bands": encoder.num_frequency_bands,
        "max_resolution": encoder.max_resolution or encoder.image_shape,
    }
    model.perceiver = modeling.PerceiverModel(
        common,
        input_preprocessor=modeling.PerceiverImagePreprocessor(
            common,
            prep_type="patches",
            spatial_downsample=1,
            temporal_downsample=2,
            conv_after_patching=True,
            out_channels=encoder.num_patch_hidden_channels,
            fourier_position_encoding_kwargs=positions,
        ),
        decoder=modeling.PerceiverOpticalFlowDecoder(
            common,
            num_channels=num_channels,
            output_image_shape=encoder.image_shape,
            rescale_factor=decoder.rescale_factor,
            num_heads=decoder.num_cross_attention_heads,
            qk_channels=decoder.num_cross_attention_qk_channels or num_channels,
            v_channels=decoder.num_cross_attention_v_channels,
            use_query_residual=decoder.cross_attention_residual,
            position_encoding_type="fourier",
            fourier_position_encoding_kwargs=positions,
        ),
    )
    model.flow_scale = decoder.flow_scale
    _mask_as_deepmind(model.perceiver)


def _add_video_autoencoder(model: Any, modeling: Any, config: PerceiverConfig) -> None:
    encoder = check_half(config.encoder, VideoEncoderConfig, deepmind.WHOSE)
    decoder = check_half(config.decoder, VideoDecoderConfig, deepmind.WHOSE)
    num_samples, num_features = encoder.num_samples, decoder.num_output_channels
    common = modeling.PerceiverConfig(
        **encoder_settings(config, num_input_channels(encoder)),
        num_labels=encoder.num_classes,
        samples_per_patch=encoder.samples_per_patch,
    )
    sound = {
        "num_bands": encoder.num_audio_frequency_bands,
        "max_resolution": (num_samples,),
    }
    frames = {
        "num_bands": encoder.num_video_frequency_bands,
        "max_resolution": encoder.video_resolution,
    }
    ask: dict[str, Any] = {"position_encoding_type": "fourier", "position_encoding_only": True}
    width = decoder.num_label_query_channels
    model.perceiver = modeling.PerceiverModel(
        common,
        input_preprocessor=modeling.PerceiverMultimodalPreprocessor(
            min_padding_size=encoder.min_padding_size,
            modalities={
                "audio": modeling.PerceiverAudioPreprocessor(
                    common,
                    samples_per_patch=encoder.samples_per_patch,
                    fourier_position_encoding_kwargs=sound,
                ),
                "image": modeling.PerceiverImagePreprocessor(
                    common,
                    prep_type="patches",
                    spatial_downsample=encoder.patch_size,
                    fourier_position_encoding_kwargs=frames,
                ),
                "label": modeling.PerceiverOneHotPreprocessor(common),
            },
            mask_probs={
                "audio": encoder.audio_mask_rate,
                "image": encoder.video_mask_rate,
                "label": encoder.label_mask_rate,
            },
        ),
        decoder=modeling.PerceiverMultimodalDecoder(
            common,
            modalities={
                "audio": modeling.PerceiverBasicDecoder(
                    common,
                    output_index_dims=(num_samples // encoder.samples_per_patch,),
                    output_num_channels=num_features,
                    fourier_position_encoding_kwargs=sound,
                    **ask,
                ),
                "image": modeling.PerceiverBasicVideoAutoencodingDecoder(
                    common,
                    output_shape=(1, *encoder.video_shape[:-1]),
                    output_num_channels=num_features,
                    fourier_position_encoding_kwargs=frames,
                    **ask,
                ),
                "label": modeling.PerceiverClassificationDecoder(
                    common,
                    position_encoding_only=True,
                    trainable_position_encoding_kwargs={"num_channels": width, "index_dims": 1},
                ),
            },
            num_outputs=None,
            output_num_channels=num_features,
            qk_channels=config.num_latent_channels,
        ),
        output_postprocessor=modeling.PerceiverMultimodalPostprocessor(
            {
                "audio": modeling.PerceiverAudioPostprocessor(common, num_features),
                "image": modeling.PerceiverProjectionPostprocessor(num_features, 3),
                "label": modeling.PerceiverClassificationPostprocessor(common, num_features),
            }
        ),
    )


ADD = {
    ImageEncoderConfig: _add_image_classifier,
    TextEncoderConfig: _add_language_model,
    OpticalFlowEncoderConfig: _add_optical_flow,
    VideoEncoderConfig: _add_video_autoencoder,
}
"""What puts a model with such an encoder together."""


def stages(model: Any, inputs: Mapping[str, Any]) -> Stages:
    """Runs the model; its intermediate results under our names, in order of computation.

    Args:
        model: from `build`.
        inputs: as of `interop.references.huggingface.stages`; of Perceiver AR, as of
            `deepmind_ar.forward`.
    """
    return (huggingface if hasattr(model, "perceiver") else deepmind_ar).stages(model, inputs)


def run(
    settings: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    inputs: Mapping[str, Any],
) -> Stages:
    """Builds a model, loads a checkpoint's weights into it and runs it.

    Args:
        settings: as for `build`.
        arrays: the checkpoint's, by DeepMind's names, in torch's default type.
        inputs: as of `stages`.

    Raises:
        ReferenceMissing: transformers is not installed; Perceiver AR needs none.
        MappingError: the arrays are not those of a model with these settings.
    """
    model = build(settings)
    config = deepmind.config(settings)
    if isinstance(config, CausalSequenceConfig):
        return stages(load_arrays(model, arrays), inputs)
    structure = skeleton(config)
    floats = next(model.parameters()).numpy(force=True).dtype
    want = {
        path: np.broadcast_to(np.zeros((), floats if x.dtype == np.float32 else x.dtype), x.shape)
        for path, x in {**structure.params, **structure.stats}.items()
    }
    ours = load(deepmind.rows(config), arrays, want)
    arrays = save(family_of(config, FAMILIES, deepmind.WHOSE).state_dict_rows(config), ours)
    return stages(load_arrays(model, arrays), inputs)


def _preprocessor(encoder: ImageEncoderConfig) -> dict[str, Any]:
    """Arguments of a `PerceiverImagePreprocessor`."""
    height, width, channels = encoder.image_shape
    common: dict[str, Any] = {
        "prep_type": encoder.preprocessing,
        "spatial_downsample": 1,
        "in_channels": channels,
    }
    if encoder.preprocessing == "conv1x1":
        num_position_channels = encoder.num_position_channels or 256
        return common | {
            "out_channels": encoder.num_preprocessing_channels or 256,
            "position_encoding_type": "trainable",
            "project_pos_dim": encoder.num_projected_position_channels or num_position_channels,
            "trainable_position_encoding_kwargs": {
                "num_channels": num_position_channels,
                "index_dims": height * width,
            },
        }
    grid = (height, width)
    if encoder.preprocessing == "conv":
        common["out_channels"] = encoder.num_preprocessing_channels or 64
        grid = stem_grid(grid, "same")
    return common | {
        "fourier_position_encoding_kwargs": {
            "num_bands": encoder.num_frequency_bands,
            "max_resolution": encoder.max_resolution or grid,
        },
    }


def _pad_as_tensorflow(convnet: Any) -> None:
    """Gives a `Conv2DDownsample` SAME padding, which puts the odd pixel at the end."""
    import torch

    def padding(size: int) -> Any:
        def pad(module, arguments):
            (images,) = arguments
            sides = []
            # torch counts from the last axis.
            for length in reversed(images.shape[2:]):
                total = max(2 * (-(-length // 2) - 1) + size - length, 0)
                sides += [total // 2, total - total // 2]
            # What is pooled is not negative, so zeros do not win.
            return (torch.nn.functional.pad(images, sides),)

        return pad

    convnet.conv.zero_pad_2d = torch.nn.Identity()
    convnet.conv.register_forward_pre_hook(padding(7))
    convnet.max_pool.register_forward_pre_hook(padding(3))


def _mask_as_deepmind(perceiver: Any, decoder: Any = None) -> None:
    """Gives zeros to latents of examples without tokens, and to queries of padding.

    Args:
        perceiver: a `PerceiverModel`.
        decoder: its layer that asks one query per token, where it has one.
    """
    import torch

    masks = []

    def remember(module, arguments, keywords):
        masks[:] = [keywords.get("attention_mask")]

    def blank_examples(module, arguments, output):
        if masks[0] is None:
            return output
        return (output[0] * masks[0].any(1)[:, None, None], *output[1:])

    def blank_queries(module, arguments, output):
        if masks[0] is None:
            return output
        attended, mask = output[0], masks[0]
        kept = torch.zeros(attended.shape[:2], dtype=torch.bool)
        kept[:, : mask.shape[1]] = mask
        return (attended * kept[..., None], *output[1:])

    perceiver.register_forward_pre_hook(remember, with_kwargs=True)
    perceiver.encoder.cross_attention.attention.self.register_forward_hook(blank_examples)
    if decoder is not None:
        decoder.attention.self.register_forward_hook(blank_queries)
