"""Accelerators by their data sheets, and the time that a step takes at the least on each.

- Peaks are of dense matrix products. float32 is what JAX makes of it by default: TF32 on NVIDIA's,
  one pass of bfloat16 on Google's (`jax.lax.Precision.DEFAULT`).
- Bandwidths between chips are what one of them can send, half of what "bidirectional" ones say.
- Chips beyond a pod, for NVIDIA's a machine of eight, talk over a network adapter of their own.
  No such number is published for a TPU: what does not fit into one pod is refused.

Sources: NVIDIA H200, H100 and A100 data sheets (SXM; halves of those peaks that are given with
sparsity), NVIDIA DGX H200, DGX H100 and DGX A100 data sheets (adapters of 400 and 200 Gb/s, one to
a GPU); Google Cloud TPU documentation, system architecture of v4, v5e, v5p and v6e.
"""

import dataclasses
import functools

from perceiver_jax.errors import UserError
from perceiver_jax.train.program_costs import Collective, Costs, sent_fraction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One chip.

    Attributes:
        kinds: what JAX calls such devices.
        bfloat16: peak, in TFLOP/s.
        float32: peak, in TFLOP/s.
        memory: in GB, of 10^9 bytes.
        memory_bandwidth: in GB/s.
        link: what a chip can send to others of its pod, in GB/s.
        pod: most chips with such links.
        network: what it can send to chips of other pods, in GB/s; None: not published.
    """

    kinds: tuple[str, ...]
    bfloat16: float
    float32: float
    memory: float
    memory_bandwidth: float
    link: float
    pod: int
    network: float | None = None


ACCELERATORS = {
    "h200": Accelerator(
        kinds=("NVIDIA H200",),
        bfloat16=989.5,
        float32=494.7,
        memory=141.0,
        memory_bandwidth=4800.0,
        link=450.0,
        pod=8,
        network=50.0,
    ),
    "h100": Accelerator(
        kinds=("NVIDIA H100 80GB HBM3",),
        bfloat16=989.5,
        float32=494.7,
        memory=80.0,
        memory_bandwidth=3350.0,
        link=450.0,
        pod=8,
        network=50.0,
    ),
    "a100": Accelerator(
        kinds=("NVIDIA A100-SXM4-80GB",),
        bfloat16=312.0,
        float32=156.0,
        memory=80.0,
        memory_bandwidth=2039.0,
        link=300.0,
        pod=8,
        network=25.0,
    ),
    "tpu_v4": Accelerator(
        kinds=("TPU v4",),
        bfloat16=275.0,
        float32=275.0,
        memory=32.0,
        memory_bandwidth=1228.0,
        link=300.0,
        pod=4096,
    ),
    "tpu_v5e": Accelerator(
        kinds=("TPU v5 lite", "TPU v5e"),
        bfloat16=197.0,
        float32=197.0,
        memory=16.0,
        memory_bandwidth=819.0,
        link=200.0,
        pod=256,
    ),
    "tpu_v5p": Accelerator(
        kinds=("TPU v5", "TPU v5p"),
        bfloat16=459.0,
        float32=459.0,
        memory=95.0,
        memory_bandwidth=2765.0,
        link=600.0,
        pod=8960,
    ),
    "tpu_v6e": Accelerator(
        kinds=("TPU v6 lite", "TPU v6e"),
        bfloat16=918.0,
        float32=918.0,
        memory=32.0,
        memory_bandwidth=1638.0,
        link=400.0,
        pod=256,
    ),
}
"""By name. The memory of an A100 is that of the larger one."""


@dataclasses.dataclass(frozen=True)
class IdealTime:
    """The least time of a step, in seconds, by what it is spent on; all go on side by side.

    Attributes:
        compute: products at peak.
        memory: parameters, moments and batch, each read once, and written once if they change.
            What lies between is left out: how often it is read depends on the compiler.
        links: what is sent inside of pods and between them, at full bandwidth.
    """

    compute: float
    memory: float
    links: float

    @property
    def total(self) -> float:
        """Of the step."""
        return max(dataclasses.astuple(self))

    @property
    def limit(self) -> str:
        """What takes longest."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def find(name: str) -> Accelerator:
    """The accelerator of a name.

    Raises:
        UserError: there is none.
    """
    if name not in ACCELERATORS:
        raise UserError(f"no accelerator is called '{name}'; there are {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]


def of_kind(device_kind: str) -> Accelerator | None:
    """The accelerator that JAX calls so; None where it is none of these."""
    return next((found for found in ACCELERATORS.values() if device_kind in found.kinds), None)


def ideal_time(accelerator: Accelerator, costs: Costs, *, moved_bytes: float) -> IdealTime:
    """The least time of a step.

    Args:
        accelerator: on which it runs.
        costs: of its program.
        moved_bytes: read and written, see `IdealTime.memory`.

    Raises:
        UserError: devices of different pods exchange arrays, at an unknown bandwidth.
    """
    compute = sum(
        number / 1e12 / (accelerator.float32 if name in ("f32", "f64") else accelerator.bfloat16)
        for name, number in costs.flops.items()
    )
    sending = functools.partial(_seconds, accelerator)
    return IdealTime(
        compute=compute,
        memory=moved_bytes / 1e9 / accelerator.memory_bandwidth,
        links=sum(times * sending(one) for one, times in costs.collectives.items()),
    )


def _seconds(accelerator: Accelerator, collective: Collective) -> float:
    """Inside of pods first, then between them, where each chip sends a share of its pod's."""
    pods = [device // accelerator.pod for device in collective.group]
    num_pods = len(set(pods))
    inside = max(pods.count(pod) for pod in set(pods))
    gigabytes = collective.num_bytes / 1e9
    seconds = gigabytes * sent_fraction(collective.kind, inside) / accelerator.link
    if num_pods == 1:
        return seconds
    if accelerator.network is None:
        raise UserError(
            f"{max(collective.group) + 1} devices are more than the {accelerator.pod} of a pod, "
            "and no bandwidth between pods is published; take a smaller --mesh"
        )
    between = gigabytes / inside * sent_fraction(collective.kind, num_pods)
    return seconds + between / accelerator.network
