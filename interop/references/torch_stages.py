"""What PyTorch modules return while a model runs, as named NumPy arrays."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

Stages = list[tuple[str, np.ndarray]]
"""Named arrays in order of computation; a name may occur again."""


@contextmanager
def recording(
    modules: Mapping[str, Any], taking: Mapping[str, Any] | None = None
) -> Iterator[Stages]:
    """Collects what modules return, in order of their calls; a shared one has its first name.

    Of modules that return several things, the first, or `last_hidden_state`, is taken.

    Args:
        modules: `torch.nn.Module`s by name.
        taking: modules whose first argument is collected, by the name that it gets.

    Yields:
        A list that grows with each call.
    """
    stages: Stages = []
    names = {id(module): name for name, module in reversed(list(modules.items()))}

    def hook(name):
        def record(module, inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            tensor = getattr(first, "last_hidden_state", first)
            stages.append((name, tensor.numpy(force=True).copy()))

        return record

    def pre_hook(name):
        def record(module, inputs):
            stages.append((name, inputs[0].numpy(force=True).copy()))

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in modules.items()
        if names[id(module)] == name
    ]
    handles += [
        module.register_forward_pre_hook(pre_hook(name)) for name, module in (taking or {}).items()
    ]
    try:
        yield stages
    finally:
        for handle in handles:
            handle.remove()


def load_arrays(model: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The model with these weights, its own loader being strict; returns it."""
    import torch

    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    model.load_state_dict(tensors, strict=True)
    return model
