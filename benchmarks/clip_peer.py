"""Hugging Face's autoencoder of clips: what it is given for a chunk, and its answers as one array.

- A clip is put in its order of axes, and labels made for it to hide, before the time is taken.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def place(inputs: Mapping[str, Mapping[str, np.ndarray]], num_classes: int) -> dict[str, Any]:
    """`inputs` and `query_indices` of clips, see `workload.Data` → arguments of its call."""
    import torch

    clip, indices = inputs["inputs"], inputs["query_indices"]
    frames = np.ascontiguousarray(np.moveaxis(clip["image"], -1, 2))
    points = {name: torch.from_numpy(index[0]) for name, index in indices.items()}
    return {
        "inputs": {
            "image": torch.from_numpy(frames),
            "audio": torch.from_numpy(clip["audio"]),
            "label": torch.zeros(len(frames), num_classes),
        },
        "subsampled_output_points": {**points, "label": None},
    }


def forward(model: Any, arguments: Mapping[str, Any]) -> Any:
    """Answers of all modalities, in the order of their names, [B, numbers]."""
    import torch

    answers = model(**arguments).logits
    return torch.cat([answers[name].flatten(1) for name in sorted(answers)], dim=1)
