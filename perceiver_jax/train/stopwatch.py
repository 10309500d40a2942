"""How fast a run trains, and what the time goes to."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Speed of the training steps alone, without evaluations and saves.

    A step's time is spent waiting for data, waiting for the devices, or by the host itself, which
    prepares steps and writes metrics. Devices that are kept busy are waited for most of the time.
    """

    def __init__(self):
        self._steps = 0
        self._begin()

    def _begin(self) -> None:
        self._start = time.monotonic()
        self._spent = {"data": 0.0, "devices": 0.0, "pauses": 0.0}

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Time inside does not count."""
        return self._counted("pauses")

    def waiting_for_data(self) -> contextlib.AbstractContextManager[None]:
        """Time inside counts as waiting for a batch."""
        return self._counted("data")

    def waiting_for_devices(self) -> contextlib.AbstractContextManager[None]:
        """Time inside counts as waiting for the results of a step."""
        return self._counted("devices")

    @contextlib.contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._spent[name] += time.monotonic() - start

    def lap(self, steps: int, batch_size: int) -> dict[str, float]:
        """Speed since the last lap, steps counted from the start; the first lap compiles, too."""
        spent = self._spent
        seconds = max(time.monotonic() - self._start - spent["pauses"], 1e-9)
        rate = (steps - self._steps) / seconds
        data, devices = spent["data"] / seconds, spent["devices"] / seconds
        row = {
            "perf/steps_per_s": rate,
            "perf/examples_per_s": rate * batch_size,
            "perf/data_wait_fraction": data,
            "perf/device_wait_fraction": devices,
            "perf/host_fraction": 1.0 - data - devices,
            "perf/pauses_s": spent["pauses"],
        }
        self._steps = steps
        self._begin()
        return row
