"""Their folders: `config.json`, weights, and what makes pictures and texts the models' input."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interop.files import FileError
from interop.foreign import Foreign
from interop.formats import hub_folder
from interop.formats.huggingface import optical_flow, resampler, video_autoencoder
from interop.formats.huggingface.config_json import DEFAULTS, architecture, complete_settings
from interop.formats.huggingface.kinds import FAMILIES
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.models import MaskedLanguageModel, TextClassifier

CLASSES_OF_TEXTS = [
    name
    for family in FAMILIES
    if {MaskedLanguageModel, TextClassifier} & set(family.MODELS)
    for name in family.CLASSES
]
CLASSES_WITHOUT_PICTURES = (
    *optical_flow.CLASSES,
    *video_autoencoder.CLASSES,
    *resampler.CLASSES,
)
NUM_BYTES = 262
"""The vocabulary of UTF-8 bytes."""
ENDINGS = ("",)
"""Of what is written: a folder."""


def read(source: Path) -> Foreign:
    """A folder as `save_pretrained` writes it.

    Of a whole IDEFICS or Idefics2 the resampler alone is read, and its settings are those of that.

    A model of texts whose folder has no tokenizer takes bytes, as the published ones do, if its
    vocabulary is that of bytes.

    Raises:
        FileError: something is missing or damaged.
    """
    settings = hub_folder.config(source)
    if _is_of(settings, resampler.WHOLE):
        return _part(source, settings)
    num_channels = None if _is_of(settings, CLASSES_WITHOUT_PICTURES) else 3
    contents = hub_folder.read(source, num_channels)
    text, files = (contents.text, contents.files) if _takes_texts(contents.config) else (None, {})
    vocab_size = contents.config.get("vocab_size", DEFAULTS["vocab_size"])
    if text is None and _takes_texts(contents.config) and vocab_size == NUM_BYTES:
        text = TextPreprocessing(tokenizer="bytes", add_special_tokens=True)
    return Foreign(
        arrays=contents.arrays,
        settings=contents.config,
        labels=hub_folder.labels(contents.config),
        preprocessing=contents.preprocessing,
        text=text,
        files=files,
        **hub_folder.provenance(contents.config),
    )


def _part(source: Path, whole: Mapping[str, Any]) -> Foreign:
    """The resampler in a whole model's folder."""
    below = resampler.WHOLE[architecture(whole, resampler.WHOLE)]
    settings = resampler.settings(resampler.config(whole))
    arrays = hub_folder.weights(source, below)
    return Foreign(arrays=arrays, settings=settings, part=below.removesuffix("."))


def _takes_texts(settings: Mapping[str, Any]) -> bool:
    return _is_of(settings, CLASSES_OF_TEXTS)


def _is_of(settings: Mapping[str, Any], classes: Iterable[str]) -> bool:
    architectures = settings.get("architectures")
    return isinstance(architectures, list) and any(name in classes for name in architectures)


def write(destination: Path, foreign: Foreign) -> None:
    """A folder that `from_pretrained` loads.

    Pictures are resized there with Pillow, whatever resampling the preprocessing has here, and
    tokenizers put texts between special tokens.

    Raises:
        FileError: there are no settings, labels for another number of classes, or the path is
            that of a file.
    """
    if foreign.settings is None:
        raise FileError(f"{destination} takes a config.json; give the model's settings")
    settings = _with_labels(foreign.settings, foreign.labels)
    max_tokens = settings.get("max_position_embeddings")
    hub_folder.write(
        destination,
        hub_folder.HubFolder(
            config=settings | hub_folder.provenance(foreign),
            arrays=foreign.arrays,
            preprocessing=foreign.preprocessing,
            text=foreign.text,
            files=foreign.files,
            tokenizer={} if max_tokens is None else {"model_max_length": max_tokens},
        ),
    )


def _with_labels(settings: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    """Settings with names of all classes in place of their number, where there are classes."""
    settings = dict(settings)
    if not labels and not {"num_labels", "id2label"} & settings.keys():
        return settings
    num_labels = complete_settings(settings)["num_labels"]
    settings.pop("num_labels", None)
    labels = labels or tuple(f"LABEL_{i}" for i in range(num_labels))
    if len(labels) != num_labels:
        raise FileError(
            f"{len(labels)} labels for {num_labels} classes; give one for each, or none"
        )
    return settings | hub_folder.label_settings(labels)
