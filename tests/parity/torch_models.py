"""PyTorch models as sources of weights, gradients and intermediate results, in NumPy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.parity.comparison import Stages


def randomise(model: Any, seed: int) -> None:
    """Gives every parameter random values, layer norms and biases among them."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            # Of a size that keeps softmax and GELU away from where they are linear or flat.
            parameter.copy_(0.4 * noise)
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight += 1.0


def state(model: Any) -> dict[str, np.ndarray]:
    """Parameters and buffers by name."""
    return {name: tensor.numpy(force=True).copy() for name, tensor in model.state_dict().items()}


def gradients(model: Any) -> dict[str, np.ndarray]:
    """Gradients by name, under every name that a shared parameter has."""
    return {
        name: parameter.grad.numpy(force=True).copy()
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


@contextmanager
def recording(modules: Mapping[str, Any]) -> Iterator[Stages]:
    """Collects what modules return, in order of their calls; a shared one has its first name."""
    stages: Stages = []
    names = {id(module): name for name, module in reversed(modules.items())}

    def hook(name):
        def record(module, inputs, output):
            tensor = getattr(output, "last_hidden_state", output)
            stages.append((name, tensor.numpy(force=True).copy()))

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in modules.items()
        if names[id(module)] == name
    ]
    yield stages
    for handle in handles:
        handle.remove()
