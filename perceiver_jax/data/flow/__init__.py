"""Optical flow on the host: files, datasets in folders, synthetic pairs, and batches of them."""

from perceiver_jax.data.flow.batches import FlowSource, flow_batches, open_split
from perceiver_jax.data.flow.config import FlowDataConfig
from perceiver_jax.data.flow.files import Flow, read_flow, read_image, write_flow

__all__ = [
    "Flow",
    "FlowDataConfig",
    "FlowSource",
    "flow_batches",
    "open_split",
    "read_flow",
    "read_image",
    "write_flow",
]
