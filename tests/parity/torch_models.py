"""PyTorch models as sources of weights, gradients and intermediate results, in NumPy."""

from typing import Any

import numpy as np

from interop.references.torch_stages import recording

__all__ = ["gradients", "randomise", "recording", "state"]


def randomise(model: Any, seed: int) -> None:
    """Gives every parameter and statistic random values, norms and biases among them."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            # Of a size that keeps softmax and GELU away from where they are linear or flat.
            parameter.copy_(0.4 * noise)
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm | torch.nn.BatchNorm2d):
                module.weight += 1.0
            if isinstance(module, torch.nn.BatchNorm2d):
                for statistic in (module.running_mean, module.running_var):
                    statistic.copy_(torch.rand(statistic.shape, generator=generator) + 0.5)
                module.num_batches_tracked.fill_(3)


def state(model: Any) -> dict[str, np.ndarray]:
    """Parameters and buffers by name."""
    return {name: tensor.numpy(force=True).copy() for name, tensor in model.state_dict().items()}


def gradients(model: Any) -> dict[str, np.ndarray]:
    """Gradients by name, under every name that a shared parameter has."""
    return {
        name: parameter.grad.numpy(force=True).copy()
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
