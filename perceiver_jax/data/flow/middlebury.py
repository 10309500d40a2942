"""The pair 'motorcycle' of Middlebury's stereo data of 2014, as flow: 500×741 pixels.

- A camera that moves to the right: flow from the left frame to the right one is
  (-disparity, 0), 7 to 60 pixels long, and known for 93 % of the pixels.
- Its files are in scikit-image, see `photos`. It is to evaluate on; one pair trains nothing.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.flow.files import decode_image, known
from perceiver_jax.data.flow.photos import read_member
from perceiver_jax.data.splits import check_split


class Motorcycle:
    """The one pair, `{"frames": [2, 500, 741, 3], "flow", "valid"}`.

    Args:
        split: "val" or "all".
        data_dir: the folder of datasets; None: the default place.

    Raises:
        DatasetError: there is no such split, or it is not there.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, split: str, data_dir: str | None = None):
        check_split(split, ("val", "all"))
        frames = [
            decode_image(read_member(f"motorcycle_{side}.png", data_dir))
            for side in ("left", "right")
        ]
        packed = np.load(
            io.BytesIO(read_member("motorcycle_disp.npz", data_dir)), allow_pickle=False
        )
        disparity = packed["arr_0"].astype(np.float32)
        flow, valid = known(np.stack([-disparity, np.zeros_like(disparity)], axis=-1))
        self._example = {"frames": np.stack(frames), "flow": flow, "valid": valid}

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if index != 0:
            raise IndexError(index)
        return self._example
