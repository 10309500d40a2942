"""Optical flow as colours: the direction is the hue, the length the saturation.

Source: the 55 colours of Baker et al., "A Database and Evaluation Methodology for Optical Flow".
"""

import numpy as np

_TRANSITIONS = (
    (15, (255, 0, 0), (255, 255, 0)),
    (6, (255, 255, 0), (0, 255, 0)),
    (4, (0, 255, 0), (0, 255, 255)),
    (11, (0, 255, 255), (0, 0, 255)),
    (13, (0, 0, 255), (255, 0, 255)),
    (6, (255, 0, 255), (255, 0, 0)),
)
"""Steps, and the colours from and to which they lead."""
_UNKNOWN = 1e9


def color_wheel() -> np.ndarray:
    """[55, 3] colours of equal steps around the circle, in [0, 1], from red over yellow to red."""
    parts = [
        first + np.trunc(np.linspace(0, np.subtract(last, first), num, endpoint=False))
        for num, first, last in _TRANSITIONS
    ]
    return np.concatenate(parts) / 255


def flow_to_image(flow: np.ndarray, max_flow: float | None = None) -> np.ndarray:
    """A picture of flow: white where nothing moves, red to the right, yellowish downwards.

    Args:
        flow: [H, W, 2] of (dx, dy) in pixels; NaN, infinite, or 1e9 and more is black.
        max_flow: the length, in pixels, of full colours; what is longer is darker. None: that of
            the longest flow.

    Returns:
        [H, W, 3] uint8.
    """
    flow = np.asarray(flow, np.float64)
    with np.errstate(invalid="ignore"):
        valid = np.asarray(np.all(np.abs(flow) < _UNKNOWN, axis=-1))
    dx, dy = np.moveaxis(np.where(valid[..., None], flow, 0.0), -1, 0)
    length = np.hypot(dx, dy)
    longest = float(length.max(initial=0.0)) if max_flow is None else max_flow
    length = length / longest if longest > 0 else length
    wheel = color_wheel()
    # The colours lie on a line from -180° to 180°, both ends of it to the left's opposite.
    place = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(int)
    share = (place - low)[..., None]
    hue = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    saturation = length[..., None]
    colors = np.where(saturation <= 1, 1 - saturation * (1 - hue), 0.75 * hue)
    return np.floor(255 * colors * valid[..., None]).astype(np.uint8)
