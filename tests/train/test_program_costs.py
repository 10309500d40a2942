"""Operations and exchanges of programs, against what they are by hand."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from perceiver_jax.train.program_costs import Collective, read_costs, sent_fraction

A = jax.ShapeDtypeStruct((4, 8), jnp.float32)
B = jax.ShapeDtypeStruct((8, 16), jnp.float32)
SQUARE = jax.ShapeDtypeStruct((8, 8), jnp.float32)


def costs_of(function, *shapes):
    return read_costs(jax.jit(function).lower(*shapes).as_text(dialect="hlo"))


def test_a_product_costs_a_multiplication_and_an_addition_per_term():
    assert costs_of(jnp.matmul, A, B).flops == {"f32": 2 * 4 * 8 * 16}
    batched = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((3, 4, 8), (3, 8, 16))]
    assert costs_of(jnp.matmul, *batched).flops == {"bf16": 2 * 3 * 4 * 8 * 16}
    assert costs_of(jnp.add, A, A).flops == {}


def test_the_body_of_a_loop_costs_as_often_as_it_runs():
    def inner(x, _):
        return x @ x, None

    def outer(x, _):
        return lax.scan(inner, x, None, length=5)[0] @ x, None

    one = 2 * 8**3
    costs = costs_of(lambda x: lax.scan(outer, x, None, length=3)[0], SQUARE)
    assert costs.flops == {"f32": 3 * (5 + 1) * one}
    assert costs.unknown_loops == 0
    counted = costs_of(lambda x: lax.fori_loop(2, 9, lambda i, x: x @ x, x), SQUARE)
    assert counted.flops == {"f32": 7 * one}


def test_a_loop_that_starts_elsewhere_is_not_taken_to_start_at_zero():
    def count_up(x):
        return lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, c[1] @ c[1]), (2, x))

    assert costs_of(count_up, SQUARE).flops == {"f32": 7 * 2 * 8**3}


def test_a_loop_of_unknown_length_counts_once_and_is_reported():
    def until_large(x):
        return lax.while_loop(lambda x: x.sum() < 100.0, lambda x: x @ x, x)

    costs = costs_of(until_large, SQUARE)
    assert costs.flops == {"f32": 2 * 8**3}
    assert costs.unknown_loops == 1


def test_of_branches_the_dearest_counts():
    def choose(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x @ x @ x, x)

    assert costs_of(choose, SQUARE).flops == {"f32": 2 * 2 * 8**3}


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 3)])
def test_convolutions_cost_their_kernel_at_each_place(stride, groups):
    x = jax.ShapeDtypeStruct((2, 10, 10, 6), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 6 // groups, 12), jnp.float32)

    def convolve(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    side = (10 - 3) // stride + 1
    want = 2 * 2 * side**2 * 12 * 9 * (6 // groups)
    assert costs_of(convolve, x, kernel).flops == {"f32": want}


def test_zeros_between_the_inputs_of_a_convolution_cost_nothing():
    x = jax.ShapeDtypeStruct((1, 16, 16, 4), jnp.float32)
    kernel = jax.ShapeDtypeStruct((2, 2, 4, 4), jnp.float32)

    def spread(x, kernel):
        return lax.conv_transpose(x, kernel, (2, 2), "VALID")

    # Every output is reached by one input.
    assert costs_of(spread, x, kernel).flops == {"f32": 2 * 32 * 32 * 4 * 4}


# ---- Exchanges -----------------------------------------------------------------------------------

MODULE = """HloModule jit_f, num_partitions=8

%sum (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}}

ENTRY %main (x: {operand}) -> {result} {{
  %x = {operand} parameter(0)
  ROOT %y = {result} {opcode}(%x), channel_id=1, {attributes}
}}
"""


def exchanged(attributes, opcode="all-reduce", operand="f32[8]{0}", result="f32[8]{0}"):
    text = MODULE.format(operand=operand, result=result, opcode=opcode, attributes=attributes)
    ((collective, times),) = read_costs(text).collectives.items()
    assert times == 1
    return collective


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("{{0,2},{1,3}}", (0, 2)),
        ("{}", tuple(range(8))),
        ("[4,2]<=[8]", (0, 1)),
        ("[4,2]<=[2,4]T(1,0)", (0, 4)),
        ("mesh['x'=4,'y'=2] {'x'}", (0, 2, 4, 6)),
        ("mesh['x'=4,'y'=2] {'x','y'}", tuple(range(8))),
        ("mesh['x'=4,'y'=1,'z'=2], device_ids=([2,4]T(1,0)) {'x'}", (0, 1, 2, 3)),
        ("mesh['x'=4,'y'=1,'z'=2], device_ids=([2,4]T(1,0)) {'z'}", (0, 4)),
        ("mesh['x'=2,'y'=2], device_ids=(0,2,1,3) {'y'}", (0, 2)),
        ("mesh['x'=8] {'x':(2)2}", (0, 2)),
        ("mesh['x'=8] {'x':(1)4}", (0, 2, 4, 6)),
    ],
)
def test_groups_of_devices_are_read_in_every_form(groups, first):
    assert exchanged(f"replica_groups={groups}, to_apply=%sum").group == first


def test_an_unknown_form_of_groups_is_an_error():
    with pytest.raises(ValueError, match="groups of devices are written in an unknown form"):
        exchanged("replica_groups=<8>, to_apply=%sum")


@pytest.mark.parametrize(
    ("opcode", "operand", "result", "num_bytes", "sent"),
    [
        ("all-reduce", "bf16[8]{0}", "bf16[8]{0}", 16, 24),
        ("all-gather", "f32[8]{0}", "f32[32]{0}", 128, 96),
        ("reduce-scatter", "f32[32]{0}", "f32[8]{0}", 128, 96),
        ("all-to-all", "f32[8]{0}", "f32[8]{0}", 32, 24),
    ],
)
def test_what_is_sent_is_what_a_ring_sends(opcode, operand, result, num_bytes, sent):
    collective = exchanged("replica_groups=[2,4]<=[8]", opcode, operand, result)
    assert collective == Collective(opcode, num_bytes, (0, 1, 2, 3))
    assert collective.sent_bytes == sent


def test_a_permutation_sends_everything_once_and_alone_nothing_is_sent():
    collective = exchanged("source_target_pairs={{3,5},{5,3}}", "collective-permute")
    assert (collective.group, collective.sent_bytes) == ((3, 5), 32)
    assert sent_fraction("all-reduce", 1) == sent_fraction("collective-permute", 1) == 0.0


def test_several_arrays_sent_in_one_are_added():
    pair = "(f32[8]{0}, bf16[2,2]{1,0})"
    assert exchanged("replica_groups={}, to_apply=%sum", operand=pair, result=pair).num_bytes == 40


def test_exchanges_of_a_loop_on_eight_devices(on_eight_devices):
    code = """
        import json, pathlib, tempfile
        import jax, jax.numpy as jnp
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        from perceiver_jax.train.plan import _compile
        from perceiver_jax.train.program_costs import read_costs

        mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)

        def shape(sizes, *spec):
            sharding = NamedSharding(mesh, PartitionSpec(*spec))
            return jax.ShapeDtypeStruct(sizes, jnp.float32, sharding=sharding)

        def total(x, w):
            def body(w, _):
                return w - jnp.einsum("bi,bo->io", x, x @ w), None
            return jax.lax.scan(body, w, None, length=3)[0]

        step = jax.jit(total, out_shardings=NamedSharding(mesh, PartitionSpec()))
        x, w = shape((64, 16), ("data", "fsdp")), shape((16, 32))
        whole, partitioned, _ = _compile(step.lower(x, w))
        whole, parts = read_costs(whole), read_costs(partitioned)
        exchanges = [[c.kind, c.num_bytes, list(c.group), n] for c, n in parts.collectives.items()]
        print(json.dumps([whole.flops["f32"], parts.flops["f32"], exchanges]))
    """
    whole, part, exchanges = json.loads(on_eight_devices(code))
    assert whole == 3 * 2 * (2 * 64 * 16 * 32)
    assert part == whole / 8
    assert exchanges == [["all-reduce", 4 * 16 * 32, list(range(8)), 3]]
