"""Clips as the PyTorch modules take and give them: frames, sound and label, at chosen points.

- They answer all modalities at once, in the order of their names; here they are taken apart.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.references.torch_stages import Stages

MODALITIES = ("audio", "image", "label")


def takes_clips(model: Any) -> bool:
    """Whether a model of `interop.references.huggingface` has several modalities."""
    return hasattr(model.perceiver.decoder, "modalities")


def forward(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Answers by modality, tensors [B, o, E] with gradients.

    Args:
        model: its `perceiver` has a multimodal decoder.
        inputs: `inputs`, by modality, and `query_indices`, [1, o] by modality, as the call of
            `perceiver_jax.models.VideoAutoencoder` has them.

    Raises:
        ValueError: frames or sound are missing, or examples are asked at points of their own.
    """
    import torch

    clip, perceiver = inputs["inputs"], model.perceiver
    if clip.get("image") is None or clip.get("audio") is None:
        raise ValueError("the reference takes frames and sound; it cannot hide them")
    frames = np.ascontiguousarray(np.moveaxis(clip["image"], -1, 2))
    logits = perceiver(
        inputs={
            "image": torch.from_numpy(frames),
            "audio": torch.from_numpy(np.ascontiguousarray(clip["audio"])),
            "label": _distributions(clip.get("label"), len(frames), perceiver.config.num_labels),
        },
        subsampled_output_points=_points(perceiver.decoder, inputs.get("query_indices") or {}),
    ).logits
    samples = logits["audio"].reshape(len(frames), -1, perceiver.config.samples_per_patch)
    return {"audio": samples, "image": logits["image"], "label": logits["label"][:, None]}


def _distributions(label: Any, batch_size: int, num_classes: int) -> Any:
    """[B, K]; nothing for what is hidden anyway."""
    import torch

    if label is None:
        return torch.zeros((batch_size, num_classes))
    label = torch.from_numpy(np.asarray(label))
    if label.ndim == 2:
        return label
    hot = torch.nn.functional.one_hot(label.long(), num_classes)
    return hot.to(torch.get_default_dtype())


def _points(decoder: Any, indices: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Which points of frames and sound are asked, [o]: all that are not chosen."""
    import torch

    grids = {
        "audio": decoder.modalities["audio"].output_index_dims,
        "image": decoder.modalities["image"].output_shape[1:],
    }
    points: dict[str, Any] = {"label": None}
    for name, grid in grids.items():
        chosen = indices.get(name)
        if chosen is None:
            chosen = np.arange(np.prod(grid))[None]
        if len(chosen) != 1:
            raise ValueError(f"the reference asks all examples at the same points of '{name}'")
        points[name] = torch.from_numpy(np.asarray(chosen[0], np.int64))
    return points


def by_modality(recorded: Stages, outputs: Mapping[str, Any]) -> Stages:
    """Stages of all modalities at once, as ours: one modality after the other.

    Args:
        recorded: under our names but for the modality: `decoder/queries` and so on.
        outputs: as of `forward`.
    """
    result = [(name, array) for name, array in recorded if not name.startswith("decoder/")]
    start = 0
    for modality in MODALITIES:
        answers = outputs[modality].numpy(force=True)
        stop = start + answers.shape[1]
        result += [
            (name.replace("decoder/", f"decoder/{modality}/", 1), array[:, start:stop])
            for name, array in recorded
            if name.startswith("decoder/")
        ]
        result.append((f"decoder/{modality}/outputs", answers))
        start = stop
    return result
