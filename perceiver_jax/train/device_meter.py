"""How well devices are used: model FLOPs utilisation, and memory."""

import jax

from perceiver_jax.train.accelerators import of_kind
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.model_flops import model_flops
from perceiver_jax.typing import Batch


class DeviceMeter:
    """What the devices do, of a run whose batches are like this one.

    Args:
        config: of the run; `peak_tflops` is what utilisation is measured against. Without it, that
            is the bfloat16 peak of the accelerator's data sheet, and on others there is none.
        batch: of all devices.
    """

    def __init__(self, config: ExperimentConfig, batch: Batch):
        known = of_kind(jax.devices()[0].device_kind)
        peak = config.peak_tflops or (known and known.bfloat16)
        self._part = peak and model_flops(config, batch) / (peak * 1e12 * jax.device_count())

    def row(self, steps_per_s: float) -> dict[str, float]:
        """Metrics of now: utilisation, and most memory that a device of this process has used."""
        row = {}
        if self._part:
            row["perf/model_flops_utilisation"] = self._part * steps_per_s
        used = [device.memory_stats() for device in jax.local_devices()]
        if all(used):
            most = max(stats["peak_bytes_in_use"] for stats in used if stats)
            row["perf/device_memory_gb"] = most / 1e9
        return row
