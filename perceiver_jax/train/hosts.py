"""Several processes that train one model together, one or more to a host.

- Each reads its share of every batch and holds its share of the arrays; all see the same workdir.
- A process that dies takes the others with it, within `hosts.timeout` seconds: all are started
  again and go on from the last checkpoint. As many as before, or more, or fewer.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from perceiver_jax.config import check_fields, setting
from perceiver_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostsConfig:
    """Which processes train together."""

    coordinator: str | None = setting(
        None,
        "HOST:PORT at which all processes reach process 0; 'auto': as Slurm, Open MPI, Kubernetes "
        "or Cloud TPU say; None: there is one process",
    )
    num_processes: int | None = setting(None, "how many, where the coordinator is an address")
    process_id: int | None = setting(None, "which of them this is, counted from 0")
    timeout: int = setting(100, "seconds of silence after which a process counts as dead")

    def __post_init__(self):
        check_fields(self)
        given = (self.num_processes, self.process_id)
        if self.timeout < 1:
            raise ValueError(f"timeout={self.timeout} must be 1 or more")
        if self.coordinator in (None, "auto"):
            if given != (None, None):
                raise ValueError(
                    f"num_processes={given[0]} and process_id={given[1]} belong to a coordinator "
                    f"with an address, and coordinator={self.coordinator}; give HOST:PORT"
                )
            return
        if not re.fullmatch(r".+:\d+", self.coordinator):
            raise ValueError(f"coordinator='{self.coordinator}' is neither HOST:PORT nor 'auto'")
        if self.process_id not in range(self.num_processes or 0):
            raise ValueError(
                f"num_processes={given[0]} and process_id={given[1]}: with coordinator="
                f"'{self.coordinator}' give both, the id in [0, num_processes)"
            )


def join(config: HostsConfig) -> None:
    """Meets the other processes; call it before anything asks JAX for its devices.

    Raises:
        UserError: they do not come within five minutes, or nothing says who they are.
    """
    if config.coordinator is None:
        return
    # JAX would catch SIGTERM itself, and leave the process running where nobody asks it.
    jax.config.update("jax_enable_preemption_service", False)
    address: dict[str, Any] = {}
    if config.coordinator != "auto":
        address = {
            "coordinator_address": config.coordinator,
            "num_processes": config.num_processes,
            "process_id": config.process_id,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(
            **address,
            heartbeat_timeout_seconds=config.timeout,
            shutdown_timeout_seconds=config.timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes did not find each other, hosts.coordinator='{config.coordinator}': "
            f"{str(error).splitlines()[0]}\nGive every process the same coordinator, an address of "
            "process 0 with a free port, and num_processes, and each its own process_id; 'auto' "
            "is for Slurm, Open MPI, Kubernetes and Cloud TPU"
        ) from error


class Greatest:
    """The greatest of the numbers that processes have, as all of them learn at the same step.

    With several processes the answer is that of the call before, at first 0: the devices work it
    out behind one step, and the host looks at it during the next, so that nobody waits.

    Args:
        mesh: of the devices of all processes.
    """

    def __init__(self, mesh: Mesh):
        self._one_of_each_device = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._max = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._before: jax.Array | None = None

    def __call__(self, here: int) -> int:
        """Call it on all processes equally often."""
        if jax.process_count() == 1:
            return here
        numbers = np.full(jax.local_device_count(), here, np.int32)
        spread = jax.make_array_from_process_local_data(self._one_of_each_device, numbers)
        before, self._before = self._before, self._max(spread)
        return 0 if before is None else int(before)


def gathered(value: Any) -> Sequence[Any]:
    """What each process has here, in the order of the processes; fit for JSON."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(multihost_utils.process_allgather(np.int32(len(text))).max())
    padded = np.pad(text, (0, longest - len(text)), constant_values=ord(" "))
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [json.loads(row.tobytes()) for row in rows]


def from_first(value: int) -> int:
    """What process 0 has here, on all processes."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
