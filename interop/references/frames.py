"""Frames as the PyTorch libraries' models of optical flow take them, and what these leave out."""

import numpy as np

FLOW_SCALE = 20.0
"""Pixels that 1 stands for in the flow that they give."""


def patches(frames: np.ndarray) -> np.ndarray:
    """[B, 2, H, W, 3] frames → [B, 2, 27, H, W] neighbourhoods of 3×3, zero beyond the border.

    Channels are ordered (row, column, colour).
    """
    padded = np.pad(frames, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    batch_size, num_frames, height, width, *_ = windows.shape
    first = windows.transpose(0, 1, 5, 6, 4, 2, 3)
    return first.reshape(batch_size, num_frames, -1, height, width)
