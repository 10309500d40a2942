"""DeepMind's models, put together from Hugging Face's modules; Perceiver AR is in `deepmind_ar`.

- DeepMind's own code is no package that could be installed. Where the two part, this is DeepMind's
  function: TensorFlow's padding, the tanh form of GELU, no decoder residual where there is none,
  and zeros for what is masked. The files made with DeepMind's code prove it
  (tests/parity/test_huggingface.py, tests/parity/test_deepmind_text_reference.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.formats import deepmind
from interop.formats.channels import num_input_channels
from interop.formats.families import family_of
from interop.formats.huggingface import image_classifier, masked_language_model
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
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
    skeleton,
)
from perceiver_jax.models.perceiver_config import check_half

FAMILIES = (image_classifier, masked_language_model)
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

    of_texts = isinstance(config.encoder, TextEncoderConfig)
    model = torch.nn.Module()
    with quiet():
        add = _add_language_model if of_texts else _add_image_classifier
        add(model, modeling, config)
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


def stages(model: Any, inputs: Mapping[str, np.ndarray]) -> Stages:
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
    inputs: Mapping[str, np.ndarray],
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
