"""The image classifier of perceiver-io 0.11, without the packages that its own imports ask for.

- Its package imports Lightning, transformers and fairscale, which the model itself does not use.
"""

import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGE = "perceiver.model.vision.image_classifier"
BACKEND = f"{PACKAGE}.backend"


def backend() -> ModuleType:
    """The module with the model and its configs; skips the test where it is not installed."""
    pytest.importorskip("torch", reason="needs torch")
    folder = _folder()
    if folder is None:
        pytest.skip("needs perceiver-io 0.11 (pip install --no-deps --ignore-requires-python)")
    return _imported(folder)


def image_classifier(hyperparameters: Mapping[str, Any], *, num_output_queries: int = 1) -> Any:
    """An `ImageClassifier`.

    Args:
        hyperparameters: its config as a nested dict.
        num_output_queries: queries O; the class itself always makes one.
    """
    module = backend()
    config = module.ImageClassifierConfig(
        **{
            **hyperparameters,
            "encoder": module.ImageEncoderConfig(**hyperparameters["encoder"]),
            "decoder": module.ClassificationDecoderConfig(**hyperparameters["decoder"]),
        }
    )
    with warnings.catch_warnings():
        # Its call of torch.meshgrid leaves `indexing` to a default that will change.
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        model = module.ImageClassifier(config)
    model.decoder.output_query_provider = module.TrainableQueryProvider(
        num_output_queries, config.decoder.num_output_query_channels
    )
    return model.eval()


def _folder() -> Path | None:
    """Where the package lies, if it is installed."""
    spec = importlib.util.find_spec("perceiver")
    for root in (spec and spec.submodule_search_locations) or ():
        folder = Path(root) / "model" / "vision" / "image_classifier"
        if (folder / "backend.py").exists():
            return folder
    return None


@functools.cache
def _imported(folder: Path) -> ModuleType:
    package, fairscale, layers = map(ModuleType, (PACKAGE, "fairscale", "fairscale.nn"))
    package.__path__ = [str(folder)]
    layers.checkpoint_wrapper = None  # pyright: ignore[reportAttributeAccessIssue]
    stubs = {PACKAGE: package, "fairscale": fairscale, "fairscale.nn": layers}
    stubs = {name: stub for name, stub in stubs.items() if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        return importlib.import_module(BACKEND)
    finally:
        for name in stubs:
            del sys.modules[name]
