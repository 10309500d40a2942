"""What a step costs each device, read from the text of XLA's program after it was partitioned.

- Counted are matrix products and convolutions, two operations for a multiplication and an
  addition, and what devices send each other. Everything else a step does is small beside them, or
  bound by memory.
- XLA's own `cost_analysis` counts the body of a loop once. Here it counts as often as the loop
  runs.
- Of a choice between branches the dearest counts.
- Before a backend goes on with it, this text is the same for all of them, but for the forms of
  attention that are chosen by backend. What a backend may still do: send several small arrays in
  one, take a sum over devices out of a loop, and make of a sum of which a device keeps a part one
  that is scattered, at half the bytes.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+)( \(.*)? \{$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([0-9,]*)\]")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """Devices exchanging an array.

    Attributes:
        kind: one of `COLLECTIVES`.
        num_bytes: of the array on a device where it is whole: after it was gathered, before it is
            scattered.
        group: numbers of the devices that take part; other groups do the same side by side.
    """

    kind: str
    num_bytes: int
    group: tuple[int, ...]

    @property
    def sent_bytes(self) -> float:
        """What each device sends at least, as it does in a ring."""
        return self.num_bytes * sent_fraction(self.kind, len(self.group))


def sent_fraction(kind: str, num_devices: int) -> float:
    """Part of an array that each device has to send at least; a sum over devices takes two trips.

    Source: Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms.
    """
    if num_devices == 1:
        return 0.0
    if kind in ("collective-permute", "collective-broadcast"):
        return 1.0
    return (2.0 if kind == "all-reduce" else 1.0) * (num_devices - 1) / num_devices


@dataclasses.dataclass
class Costs:
    """What a program costs each device.

    Attributes:
        flops: operations of products and convolutions, by the type of their operands.
        collectives: how often each one happens.
        unknown_loops: loops whose length depends on data; their bodies count once.
    """

    flops: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    collectives: collections.Counter[Collective] = dataclasses.field(
        default_factory=collections.Counter
    )
    unknown_loops: int = 0

    def add(self, other: "Costs", times: int = 1) -> None:
        """Counts another program, so many times."""
        for name, number in other.flops.items():
            self.flops[name] += times * number
        for collective, number in other.collectives.items():
            self.collectives[collective] += times * number
        self.unknown_loops += other.unknown_loops


def read_costs(text: str) -> Costs:
    """The costs of a program.

    Args:
        text: a module of HLO, of one device.

    Raises:
        ValueError: groups of devices are written in a form that is not known.
    """
    computations, entry = _computations(text)
    found = re.search(r"num_partitions=(\d+)", text)
    everyone = tuple(range(int(found[1]) if found else 1))

    @functools.cache
    def costs(name: str) -> Costs:
        total, inside = Costs(), computations[name]
        for instruction in inside.values():
            opcode, attributes = instruction.opcode, instruction.attributes
            if opcode == "dot":
                total.flops[inside[instruction.operands[0]].dtype] += _dot(instruction, inside)
            elif opcode == "convolution":
                number = _convolution(instruction, inside)
                total.flops[inside[instruction.operands[0]].dtype] += number
            elif opcode in COLLECTIVES:
                total.collectives[_collective(instruction, everyone)] += 1
            elif opcode == "while":
                condition, body = (_named(attributes, name) for name in ("condition", "body"))
                times = _trip_count(instruction, inside, computations[condition])
                total.unknown_loops += times is None
                total.add(costs(body), 1 if times is None else times)
            elif opcode == "conditional":
                total.add(max(map(costs, _branches(attributes)), key=_weight))
            elif opcode in ("call", "fusion"):
                total.add(costs(_named(attributes, "to_apply" if opcode == "call" else "calls")))
        return total

    return costs(entry)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """A line of HLO: what it makes, by which operation, of what."""

    result: str
    opcode: str
    operands: Sequence[str]
    attributes: str
    is_root: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return _arrays(self.result)[0][1]

    @property
    def dtype(self) -> str:
        return _arrays(self.result)[0][0]

    @property
    def num_bytes(self) -> int:
        return sum(math.prod(shape) * _item_size(dtype) for dtype, shape in _arrays(self.result))


_Computation = Mapping[str, _Instruction]


def _computations(text: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """The instructions of each computation by name, and the name of the first to run."""
    computations: dict[str, dict[str, _Instruction]] = {}
    inside: dict[str, _Instruction] = {}
    entry = ""
    for line in text.splitlines():
        if (head := _COMPUTATION.match(line)) is not None:
            inside = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif (found := _INSTRUCTION.match(line)) is not None:
            root, name, result, opcode, rest = found.groups()
            # Constants have values, not operands, between the parentheses.
            operands, _, attributes = rest.partition(")")
            names = re.sub(r"/\*.*?\*/", "", operands).split(",")
            inside[name] = _Instruction(
                result=result,
                opcode=opcode,
                operands=[word.split()[-1].lstrip("%") for word in names if word.strip()],
                attributes=attributes,
                is_root=root is not None,
            )
    return computations, entry


def _arrays(result: str) -> list[tuple[str, tuple[int, ...]]]:
    """Type and shape of an array, or of each of a tuple."""
    found = _ARRAY.findall(result)
    return [(dtype, tuple(map(int, filter(None, shape.split(","))))) for dtype, shape in found]


def _item_size(dtype: str) -> int:
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1


def _named(attributes: str, name: str) -> str:
    found = re.search(rf"\b{name}=%?([\w.-]+)", attributes)
    if found is None:
        raise ValueError(f"the program names no {name} in '{attributes[:80]}'")
    return found[1]


def _branches(attributes: str) -> list[str]:
    found = _BRANCHES.search(attributes)
    if found is None:
        return [_named(attributes, f"{which}_computation") for which in ("true", "false")]
    return [name.strip().lstrip("%") for name in found[1].split(",")]


def _weight(costs: Costs) -> tuple[float, float]:
    sent = sum(one.sent_bytes * times for one, times in costs.collectives.items())
    return sum(costs.flops.values()), sent


def _numbers(attributes: str, name: str) -> list[int]:
    """`name={1,2}` as numbers; none where it is not there."""
    found = re.search(rf"\b{name}=\{{([\d,]*)\}}", attributes)
    return [int(number) for number in found[1].split(",") if number] if found else []


def _dot(instruction: _Instruction, inside: _Computation) -> int:
    left = inside[instruction.operands[0]].shape
    contracted = _numbers(instruction.attributes, "lhs_contracting_dims")
    return 2 * math.prod(instruction.shape) * math.prod(left[axis] for axis in contracted)


def _convolution(instruction: _Instruction, inside: _Computation) -> int:
    """Products with the kernel at each place of the output; zeros put between inputs cost nothing.

    Zeros around the inputs count as if they were multiplied.
    """
    kernel = inside[instruction.operands[1]].shape
    labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes)
    num_outputs = kernel[labels[1].index("o")] if labels else 1
    dilation = re.search(r"lhs_dilate=([\dx]+)", instruction.attributes)
    zeros = math.prod(map(int, dilation[1].split("x"))) if dilation else 1
    return 2 * math.prod(instruction.shape) * math.prod(kernel) // num_outputs // zeros


def _trip_count(loop: _Instruction, inside: _Computation, condition: _Computation) -> int | None:
    """How often a loop runs that counts up by one to a constant; None: it is another loop."""
    root = next(instruction for instruction in condition.values() if instruction.is_root)
    if root.opcode != "compare" or "direction=LT" not in root.attributes:
        return None
    counter, end = (condition[name] for name in root.operands)
    index = re.search(r"index=(\d+)", counter.attributes)
    if counter.opcode != "get-tuple-element" or index is None or end.opcode != "constant":
        return None
    start = inside[inside[loop.operands[0]].operands[int(index[1])]]
    if start.opcode != "constant":
        return None
    return max(0, int(end.operands[0]) - int(start.operands[0]))


def _collective(instruction: _Instruction, everyone: tuple[int, ...]) -> Collective:
    group = _group(instruction.attributes, everyone)
    scattered = len(group) if instruction.opcode == "reduce-scatter" else 1
    return Collective(instruction.opcode, instruction.num_bytes * scattered, group)


def _group(attributes: str, everyone: tuple[int, ...]) -> tuple[int, ...]:
    """The first group of devices, in any of the three forms that HLO has for groups.

    `{{0,1},{2,3}}` lists them; `[2,2]<=[4]` divides a row of numbers, maybe transposed, into so
    many groups of so many; `mesh['x'=2,'y'=2] {'x'}` names axes of a mesh of devices.
    """
    pairs = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", attributes)
    if pairs:
        return tuple(map(int, pairs.groups()))
    found = re.search(r"replica_groups=(.*)", attributes)
    if found is None or found[1].startswith("{}"):
        return everyone
    written = found[1]
    if listed := re.match(r"\{\{([\d,]*)\}", written):
        return tuple(map(int, listed[1].split(",")))
    if divided := re.match(r"\[(\d+),(\d+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", written):
        return tuple(_device_numbers(divided[3])[: int(divided[2])].tolist())
    mesh = re.match(r"mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", written)
    if mesh is None:
        raise ValueError(f"groups of devices are written in an unknown form: {written[:80]}")
    return _group_of_mesh(*mesh.groups())


def _device_numbers(written: str) -> np.ndarray:
    """`[2,4]T(1,0)` as the numbers 0 to 7, laid out in that shape, transposed, in a row.

    Without brackets they are listed.
    """
    if not written.startswith("["):
        return np.array([int(number) for number in written.split(",")])
    shape, _, axes = written.partition("T")
    sizes = [int(size) for size in shape.strip("[]").split(",")]
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    order = [int(axis) for axis in axes.strip("()").split(",")] if axes else None
    return numbers.transpose(order).reshape(-1)


def _group_of_mesh(axes: str, numbers: str | None, named: str) -> tuple[int, ...]:
    """The devices along some axes of a mesh, `'x'`, or along parts of them, `'x':(2)4`."""
    along = {
        name: (int(before or 1), int(size or 0))
        for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", named)
    }
    sizes: list[int] = []
    chosen: list[int] = []
    for name, size in re.findall(r"'([^']+)'=(\d+)", axes):
        before, part = along.get(name, (1, 1))
        part = part or int(size)
        chosen.append(len(sizes) + 1)
        sizes += [before, part, int(size) // before // part]
    count = math.prod(sizes)
    row = _device_numbers(numbers) if numbers else np.arange(count)
    others = tuple(axis for axis in range(len(sizes)) if axis not in chosen)
    laid = row.reshape(sizes).transpose(*others, *chosen)
    return tuple(laid.reshape(-1, math.prod(sizes[axis] for axis in chosen))[0].tolist())
