"""Where the parameters of a run start: random values, another run, or a foreign file.

- Whole models or encoders alone; what is not taken keeps its random values.
- Weights that fit by shape but were trained as another function (another activation, other heads)
  are refused: nothing would say so later.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perceiver_jax import params as parameters
from perceiver_jax.card import ModelCard
from perceiver_jax.config import check_fields, setting, to_dict, with_article
from perceiver_jax.data.text import TextDataConfig, open_tokenizer
from perceiver_jax.data.text.tokenizers import (
    ByteTokenizer,
    TokenizerError,
    tokenizer_from_files,
)
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig, PerceiverConfig
from perceiver_jax.models.release import Release
from perceiver_jax.params import Skeleton

NOT_THE_FUNCTION = (
    "kind",
    "dropout",
    "residual_dropout",
    "cross_attention_dropout",
    "mlp_residual_dropout",
    "input_dropout",
    "latent_dropout",
    "encoder_dropout",
    "num_training_inputs",
    "position_table",
    "zero_logits",
    "init_method",
    "init_scale",
    "latent_init_scale",
    "compute_dtype",
    "implementation",
    "remat",
    "unroll",
    "masked_rows",
    "mask_queries",
    "max_latents",
)
"""Fields of a model or of its halves that parameters carry over to any value of.

`masked_rows` and `mask_queries` say what padding gets, which nothing is trained on; how many
latents predict is chosen at each call.
"""


SHAPES = (
    "num_cross_attention_qk_channels",
    "num_cross_attention_v_channels",
    "num_self_attention_qk_channels",
    "num_self_attention_v_channels",
    "num_output_query_channels",
)
"""Fields whose None stands for a number that the shapes of arrays tell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Weights to start from, read when a run begins and not when it is resumed."""

    source: str | None = setting(
        None,
        "workdir of a run, or FORMAT:PATH-OR-HUB-ID as in deepmind:weights.pickle; None: random "
        "values",
    )
    part: Literal["model", "encoder"] = setting(
        "model", "what is taken: the whole 'model', or its 'encoder' alone"
    )

    def __post_init__(self):
        check_fields(self)


def initial_arrays(
    found: Release, pretrained: PretrainedConfig, wanted: Release, skeleton: Skeleton
) -> dict[str, np.ndarray]:
    """Parameters and statistics to start from, by path; those that are not taken are left out.

    Args:
        found: what lies at the source.
        pretrained: which part of it is taken.
        wanted: config, card and files of the model to be trained; its arrays are not looked at.
        skeleton: of that model.

    Raises:
        UserError: it does not fit the model.
    """
    config = wanted.config
    differences = [
        *_config_differences(found.config, config, pretrained.part),
        *_text_differences(found, wanted),
    ]
    shapes = {**skeleton.params, **skeleton.stats}
    taken = {path: x for path, x in found.arrays.items() if _taken(path, pretrained.part)}
    if not differences:
        differences += _shape_differences(taken, shapes, pretrained.part)
    if differences:
        listed = "\n  ".join(differences[:20])
        hint = (
            "set the fields of config.model and config.data to those of the source"
            if pretrained.part == "encoder"
            else "set the fields to those of the source, or take its encoder alone with "
            "--config.pretrained.part=encoder"
        )
        raise UserError(
            f"the {pretrained.part} of {pretrained.source} does not fit this run:\n  {listed}\n"
            f"Choose another --config.pretrained.source, or {hint}."
        )
    return taken


def described_start(
    source: str | None, origin: str | None, taken: Mapping[str, Any], skeleton: Skeleton
) -> str:
    """A line for the log: where weights come from, and how many of the model's they are.

    Args:
        source: what was opened.
        origin: what its card says of it.
        taken: what `initial_arrays` returned.
        skeleton: of the model to be trained.
    """
    shapes = skeleton.params
    number = parameters.count({path: x for path, x in shapes.items() if path in taken})
    where = f"{source} ({origin})" if origin else source
    return f"pretrained   {where}: {number:,} of {parameters.count(shapes):,} parameters"


def check_tokenizer(data: Any, pretrained: PretrainedConfig) -> None:
    """Raises a UserError where the tokenizer is not there, and the weights come with one.

    Args:
        data: the config of the data; only that of texts names a tokenizer.
        pretrained: where the weights come from.
    """
    if not isinstance(data, TextDataConfig) or pretrained.source is None:
        return
    try:
        open_tokenizer(data)
    except TokenizerError as error:
        scheme, _, rest = pretrained.source.partition(":")
        folder = Path(pretrained.source if Path(pretrained.source).exists() else rest or scheme)
        if Path(data.tokenizer).exists() or not _holds_a_tokenizer(folder):
            raise
        raise UserError(
            f"no tokenizer '{data.tokenizer}': there is no such file or folder here; "
            f"{pretrained.source} comes with the tokenizer that it was trained with, so set "
            f"--config.data.tokenizer={folder}"
        ) from error


def _holds_a_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or len(list(folder.glob("*.model"))) == 1


def inherited(card: ModelCard, source: ModelCard, pretrained: PretrainedConfig) -> ModelCard:
    """The card of a model that begins with other weights: their origin and licence are its own."""
    origin = source.origin or str(pretrained.source)
    return dataclasses.replace(card, origin=origin, licence=source.licence)


def _taken(path: str, part: str) -> bool:
    return part == "model" or path.startswith("encoder/")


def _config_differences(there: AnyModelConfig, here: AnyModelConfig, part: str) -> Iterator[str]:
    """Fields that make another function of the same parameters, or other parameters."""
    if type(there) is not type(here):
        yield f"model: {with_article(type(there))} there, {with_article(type(here))} here"
    elif not (isinstance(there, PerceiverConfig) and isinstance(here, PerceiverConfig)):
        if part == "encoder":
            whole = with_article(type(here))
            yield f"model: {whole} has no encoder of its own; take all of it, with "
            yield "  --config.pretrained.part=model"
        else:
            yield from _field_differences("model", there, here)
    else:
        for name in ("num_latents", "num_latent_channels"):
            if getattr(there, name) != getattr(here, name):
                yield f"{name}: {getattr(there, name)} there, {getattr(here, name)} here"
        for half in ("encoder",) if part == "encoder" else ("encoder", "decoder"):
            yield from _field_differences(half, getattr(there, half), getattr(here, half))


def _field_differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if type(old) is not type(new):
        yield f"{name}: {with_article(type(old))} there, {with_article(type(new))} here"
        return
    before, after = to_dict(old), to_dict(new)
    for field in before:
        # What follows from other fields where it is None shows in the shapes of arrays.
        open_ = field in SHAPES and None in (before[field], after[field])
        if field not in NOT_THE_FUNCTION and before[field] != after[field] and not open_:
            yield f"{name}.{field}: {before[field]!r} there, {after[field]!r} here"


def _text_differences(found: Release, wanted: Release) -> Iterator[str]:
    """Ids that mean another text there."""
    there, here = found.card.text, wanted.card.text
    if there is None or here is None:
        return
    if there.tokenizer != here.tokenizer:
        yield f"tokenizer: '{there.tokenizer}' there, '{here.tokenizer}' here"
    elif _fingerprint(found) != _fingerprint(wanted):
        yield f"tokenizer: the two called '{here.tokenizer}' are not the same"


def _fingerprint(release: Release) -> str:
    text = release.card.text
    if text is None or text.tokenizer == "bytes":
        return ByteTokenizer.fingerprint
    return tokenizer_from_files(text.tokenizer, release.files).fingerprint


def _shape_differences(
    taken: Mapping[str, Any], shapes: Mapping[str, Any], part: str
) -> Iterator[str]:
    expected = {path: x for path, x in shapes.items() if _taken(path, part)}
    for path, x in expected.items():
        if path not in taken:
            yield f"{path} {x.shape} is missing there"
        elif tuple(taken[path].shape) != tuple(x.shape):
            yield f"{path}: {tuple(taken[path].shape)} there, {tuple(x.shape)} here"
    yield from (f"{path} is unknown here" for path in taken if path not in expected)
