"""A trained model of optical flow on the real stereo pair 'motorcycle', beside OpenCV's DIS.

python -m benchmarks.middlebury --source=runs/flow_small

- Disparities are 7 to 60 pixels of 741. A small model sees the pair shrunk to the size of its
  frames, in one piece, and its flow is enlarged again; so does DIS once more for comparison.
- Errors are end-point errors over the known pixels of the full size, in its pixels.
"""

import argparse

import cv2
import numpy as np

from perceiver_jax.data.flow.middlebury import Motorcycle
from perceiver_jax.pipelines.optical_flow import OpticalFlowEstimation
from perceiver_jax.pretrained import open_source


def main() -> None:
    """Prints a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="a workdir, or FORMAT:PATH")
    estimate = OpticalFlowEstimation(open_source(parser.parse_args().source))
    pair = Motorcycle("val")[0]
    frames, truth, valid = pair["frames"], pair["flow"], pair["valid"]
    small = np.stack([_resized(frame, estimate.tile_size) for frame in frames])
    flows = {
        "no flow": np.zeros_like(truth),
        "the same flow everywhere, the mean of the true one": np.broadcast_to(
            truth[valid].mean(0), truth.shape
        ),
        f"model, pair shrunk to {_size(small)}": _enlarged(_model(estimate, small), truth),
        f"DIS, pair shrunk to {_size(small)}": _enlarged(_dis(small), truth),
        f"DIS, whole pair of {_size(frames)}": _dis(frames),
    }
    for name, flow in flows.items():
        errors = np.linalg.norm(flow - truth, axis=-1)[valid]
        print(f"{name:<52} end-point error {errors.mean():5.2f} px")


def _model(estimate: OpticalFlowEstimation, frames: np.ndarray) -> np.ndarray:
    return next(estimate([(frames[0], frames[1])]))


def _dis(frames: np.ndarray) -> np.ndarray:
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    if min(frames.shape[1:3]) < 64:
        # DIS needs a few dozen pixels; enlarging frames adds nothing that is not in them.
        factor = -(-64 // min(frames.shape[1:3]))
        height, width = grey[0].shape
        size = (width * factor, height * factor)
        grey = [cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in grey]
        flow = _dis_of(grey)
        return cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / factor
    return _dis_of(grey)


def _dis_of(grey: list[np.ndarray]) -> np.ndarray:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return dis.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)


def _enlarged(flow: np.ndarray, like: np.ndarray) -> np.ndarray:
    height, width = like.shape[:2]
    factors = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    return cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * factors


def _size(frames: np.ndarray) -> str:
    return f"{frames.shape[1]}×{frames.shape[2]}"


if __name__ == "__main__":
    main()
