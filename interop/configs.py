"""What a user may name as a model's config: a published model, a JSON file, a config file."""

import difflib
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from interop.expressible import nearest
from interop.formats import FORMATS
from interop.formats.deepmind import released
from interop.formats.settings import read_json
from interop.shipped import TAKEN
from perceiver_jax import models
from perceiver_jax.config import KIND, choice_from_dict, from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig

PUBLISHED: dict[str, Callable[[], AnyModelConfig]] = {
    **released.PUBLISHED,
    # Examples of krasserm's library.
    "causal_bytes": models.causal_bytes,
    "causal_subwords": models.causal_subwords,
    "symbolic_audio_maestro": models.symbolic_audio_maestro,
    "symbolic_audio_giantmidi": models.symbolic_audio_giantmidi,
    # A part of a model of Hugging Face's library.
    "idefics2_resampler": models.idefics2_resampler,
}
"""Published models by name; their weights lie elsewhere."""


def find_config(name: str, module: ModuleType) -> AnyModelConfig:
    """The config that a name or path means.

    Args:
        name: a key of `PUBLISHED`; a JSON file with settings in the format's words, or with a
            config of ours (a release's `config.json` too); or `FILE.py[:VARIANT]`, a config file of
            a training run, also by the bare name of a shipped one.
        module: the format whose words a JSON file may use.

    Raises:
        UserError: there is no such thing, or it is no config.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]()
    if name.endswith(".json"):
        tree = read_json(Path(name))
        ours = tree.get("model", tree)
        if isinstance(ours, dict) and (KIND in ours or KIND in (ours.get("encoder") or {})):
            return choice_from_dict(AnyModelConfig, ours, "model")
        return module.config(tree)
    return _of_experiment(name, module)


def is_source(name: str) -> bool:
    """Whether a name means weights, a file, a folder or a hub id, and none of these configs."""
    from perceiver_jax.train.command_line import shipped_configs

    path = name.partition(":")[0]
    is_config = name in PUBLISHED or path in shipped_configs() or path.endswith((".json", ".py"))
    return not is_config and ("/" in name or Path(name).exists())


def _of_experiment(name: str, module: ModuleType) -> AnyModelConfig:
    from perceiver_jax.train.command_line import config_file, shipped_configs
    from perceiver_jax.train.config import ExperimentConfig

    path, _, variant = name.partition(":")
    try:
        file = config_file(path)
    except UserError as error:
        known = [*PUBLISHED, *shipped_configs()]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        raise UserError(
            f"'{name}' is no config{hint}; name a JSON file of settings in the words of "
            f"{module.WHOSE}, or a config file; {_that_fit(module)}"
        ) from error
    get_config = runpy.run_path(str(file))["get_config"]
    tree = get_config(variant) if variant else get_config()
    return from_dict(ExperimentConfig, tree).model


def _that_fit(module: ModuleType) -> str:
    """Which configs with a name of their own are of models that a format has."""
    from perceiver_jax.train.command_line import shipped_configs

    (format,) = (name for name, known in FORMATS.items() if known is module)  # noqa: A001
    shipped = TAKEN.get(format, shipped_configs())
    published = [name for name in PUBLISHED if name not in shipped and _fits(module, name)]
    parts = {"shipped configs": shipped, "published models": published}
    return "; ".join(
        f"{what} that fit: {', '.join(names) or 'none'}" for what, names in parts.items()
    )


def _fits(module: ModuleType, published: str) -> bool:
    """Whether a format has a published model as it is."""
    try:
        return not nearest(module, PUBLISHED[published]())[1]
    except UserError:
        return False
