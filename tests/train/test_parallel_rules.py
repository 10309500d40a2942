"""Which mesh axes divide what, on meshes without devices, and what is refused."""

from typing import Any, cast

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from perceiver_jax.errors import UserError
from perceiver_jax.train import parallel
from perceiver_jax.train.parallel import ParallelConfig
from perceiver_jax.train.sharding_rules import batch_specs


def test_what_cannot_be_divided_is_refused_on_eight_devices(on_eight_devices):
    code = """
        from perceiver_jax.errors import UserError
        from perceiver_jax.train import parallel
        from perceiver_jax.train.parallel import ParallelConfig

        for make in (
            lambda: parallel.check_batch_size("data.batch_size", 12),
            lambda: parallel.check_batch_size("data.batch_size", 24, 2),
            lambda: parallel.check_batch_size("data.batch_size", 6, 2, tensor=2),
            lambda: parallel.make_mesh(ParallelConfig(fsdp=3)),
            lambda: parallel.make_mesh(ParallelConfig(fsdp=2, tensor=8)),
        ):
            try:
                make()
            except UserError as error:
                print(error)
    """
    over, parts, groups, fsdp, tensor = on_eight_devices(code).splitlines()
    assert over == ("data.batch_size=12 cannot be divided over 8 devices; choose a multiple of 8")
    assert parts.startswith("data.batch_size=24 cannot be divided over 8 devices times 2 parts")
    assert groups == (
        "data.batch_size=6 cannot be divided over 4 groups of 2 devices times 2 parts; choose a "
        "multiple of 8"
    )
    what = "times parallel.tensor={} does not divide the 8 devices; choose divisors"
    assert fsdp == f"parallel.fsdp=3 {what.format(1)}"
    assert tensor == f"parallel.fsdp=2 {what.format(8)}"


def test_groups_of_devices_do_not_go_beyond_a_process(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    with pytest.raises(UserError, match="tensor=4 does not divide the 2 devices of a process"):
        parallel.make_mesh(ParallelConfig(tensor=4))


# ---- Rules, on an abstract mesh ------------------------------------------------------------------

SHAPES = {
    "a/kernel": jax.ShapeDtypeStruct((512, 1024), np.float32),
    "a/bias": jax.ShapeDtypeStruct((1024,), np.float32),
    "odd/kernel": jax.ShapeDtypeStruct((511, 1023), np.float32),
}


def specs(layout, sizes=(4, 2, 1), shapes=SHAPES):
    mesh = jax.sharding.AbstractMesh(sizes, parallel.AXES)
    shardings = parallel.parameter_shardings(shapes, mesh, layout)
    return {path: sharding.spec for path, sharding in shardings.items()}


def test_without_fsdp_and_rules_every_parameter_is_whole_everywhere():
    assert set(specs(ParallelConfig(), (8, 1, 1)).values()) == {PartitionSpec()}


def test_fsdp_divides_only_what_is_large_and_divisible():
    got = specs(ParallelConfig(fsdp=2))
    assert got == {
        "a/kernel": PartitionSpec(None, "fsdp"),
        "a/bias": PartitionSpec(),
        "odd/kernel": PartitionSpec(),
    }
    assert specs(ParallelConfig(fsdp=2, min_fsdp_mib=0.0))["a/bias"] == PartitionSpec("fsdp")


def test_the_first_rule_found_in_the_path_decides():
    rules = (("^a/", ("data",)), ("kernel", ("fsdp", None)), ("", ()))
    got = specs(ParallelConfig(fsdp=2, rules=(rules[0], rules[2])))
    assert got["a/kernel"] == got["a/bias"] == PartitionSpec("data")
    assert got["odd/kernel"] == PartitionSpec()


@pytest.mark.parametrize(
    "rule",
    [("odd", ("fsdp",)), ("bias", (None, "fsdp")), ("a/kernel", (None, None, "data"))],
)
def test_a_rule_that_does_not_fit_names_the_parameter(rule):
    with pytest.raises(UserError, match="the sharding rule .* does not fit .* of shape"):
        specs(ParallelConfig(fsdp=2, rules=(rule,)))


def test_a_rule_with_an_unknown_mesh_axis_is_refused():
    with pytest.raises(ValueError, match=r"rule for 'kernel' names the mesh axes \['model'\]"):
        ParallelConfig(rules=(("kernel", ("model",)),))


@pytest.mark.parametrize("name", ["fsdp", "tensor"])
def test_no_devices_at_all_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be 1 or more"):
        ParallelConfig(**{name: 0})


def test_what_tensor_divides_is_one_of_three():
    with pytest.raises(ValueError, match="tensor_divides='rows' is none of 'heads', 'inputs', "):
        ParallelConfig(tensor_divides=cast(Any, "rows"))


# ---- What is built in ----------------------------------------------------------------------------

LAYER = "encoder/block/0/layer/0/"
MODEL = {
    "encoder/latents": jax.ShapeDtypeStruct((32, 64), np.float32),
    LAYER + "norm/scale": jax.ShapeDtypeStruct((64,), np.float32),
    LAYER + "attention/query/kernel": jax.ShapeDtypeStruct((64, 64), np.float32),
    LAYER + "attention/query/bias": jax.ShapeDtypeStruct((64,), np.float32),
    LAYER + "attention/output/kernel": jax.ShapeDtypeStruct((64, 64), np.float32),
    LAYER + "attention/output/bias": jax.ShapeDtypeStruct((64,), np.float32),
    LAYER + "mlp/hidden/kernel": jax.ShapeDtypeStruct((64, 256), np.float32),
    LAYER + "mlp/hidden/bias": jax.ShapeDtypeStruct((256,), np.float32),
    LAYER + "mlp/output/kernel": jax.ShapeDtypeStruct((256, 64), np.float32),
    "decoder/output_adapter/linear/kernel": jax.ShapeDtypeStruct((64, 10), np.float32),
}


def divided(layout, **shapes):
    """Axes of each parameter of `MODEL` that is divided, by its path below the layer."""
    got = specs(layout, (2, layout.fsdp, layout.tensor), MODEL | shapes)
    return {path.removeprefix(LAYER): tuple(s) for path, s in got.items() if any(s)}


def test_heads_are_columns_before_the_attention_and_rows_after_it():
    assert divided(ParallelConfig(tensor=2)) == {
        "attention/query/kernel": (None, "tensor"),
        "attention/query/bias": ("tensor",),
        "attention/output/kernel": ("tensor",),
        "mlp/hidden/kernel": (None, "tensor"),
        "mlp/hidden/bias": ("tensor",),
        "mlp/output/kernel": ("tensor",),
    }


def test_fsdp_takes_the_largest_axis_that_tensor_leaves():
    got = divided(ParallelConfig(fsdp=2, tensor=2, min_fsdp_mib=0.0))
    assert got["attention/query/kernel"] == got["mlp/hidden/kernel"] == ("fsdp", "tensor")
    assert got["attention/output/kernel"] == got["mlp/output/kernel"] == ("tensor", "fsdp")
    assert got["attention/query/bias"] == ("tensor",)
    assert got["encoder/latents"] == (None, "fsdp")
    assert got["norm/scale"] == got["attention/output/bias"] == ("fsdp",)
    assert got["decoder/output_adapter/linear/kernel"] == ("fsdp",)


def test_rules_of_the_config_come_before_those_built_in():
    rules = (("query", ()), ("hidden/kernel", ("fsdp",)))
    got = divided(ParallelConfig(fsdp=2, tensor=2, min_fsdp_mib=0.0, rules=rules))
    assert not any("query" in path for path in got)
    assert got["mlp/hidden/kernel"] == ("fsdp",) and got["mlp/hidden/bias"] == ("tensor",)


def test_latents_are_divided_alone_and_inputs_divide_no_parameter():
    assert divided(ParallelConfig(tensor=2, tensor_divides="latents")) == {
        "encoder/latents": ("tensor",)
    }
    assert divided(ParallelConfig(tensor=2, tensor_divides="inputs")) == {}


def test_a_size_that_tensor_does_not_divide_is_named_with_a_remedy():
    layout = ParallelConfig(tensor=2)
    path = "encoder/cross_attention/0/attention/key/kernel"
    odd = {path: jax.ShapeDtypeStruct((261, 261), np.float32)}
    with pytest.raises(
        UserError, match=r"does not fit .*key/kernel of shape \(261, 261\)"
    ) as error:
        divided(layout, **odd)
    remedy = "('^encoder/cross_attention/0/attention', ())"
    assert remedy in str(error.value)
    layout = ParallelConfig(tensor=2, rules=(("^encoder/cross_attention/0/attention", ()),))
    assert divided(layout, **odd) == divided(ParallelConfig(tensor=2))


def test_a_model_without_what_tensor_divides_is_refused():
    layout = ParallelConfig(tensor=2, tensor_divides="latents")
    with pytest.raises(UserError, match="'encoder/latents.', of which this model has none"):
        specs(layout, (2, 1, 2))


# ---- Batches -------------------------------------------------------------------------------------

BATCH = {
    "image": np.zeros((4, 6, 8, 3)),
    "flow": np.zeros((4, 6, 8, 2)),
    "target": np.zeros((4, 10)),
    "label": np.zeros(4),
}
EXAMPLES = ("data", "fsdp")


def test_inputs_are_divided_along_columns_or_places():
    got = batch_specs(BATCH, ParallelConfig(tensor=4, tensor_divides="inputs"))
    columns = PartitionSpec(EXAMPLES, None, "tensor")
    assert got["image"] == got["flow"] == columns
    # Ten classes are not divided by four.
    assert got["target"] == got["label"] == PartitionSpec(EXAMPLES)
    texts = {"ids": np.zeros((4, 8)), "positions": np.zeros((4, 8, 3))}
    got = batch_specs(texts, ParallelConfig(tensor=4, tensor_divides="inputs"))
    assert set(got.values()) == {PartitionSpec(EXAMPLES, "tensor")}


@pytest.mark.parametrize("tensor, what", [(4, "heads"), (4, "latents"), (1, "inputs")])
def test_else_batches_are_divided_over_examples_alone(tensor, what):
    got = batch_specs(BATCH, ParallelConfig(tensor=tensor, tensor_divides=what))
    assert set(got.values()) == {PartitionSpec(EXAMPLES)}


def test_inputs_that_cannot_be_divided_are_named():
    message = r"tensor=5 does not divide the inputs\['image'\] of shape \(4, 6, 8, 3\) along axis 2"
    with pytest.raises(UserError, match=message):
        batch_specs(BATCH, ParallelConfig(tensor=5, tensor_divides="inputs"))
    with pytest.raises(UserError, match="along axis None"):
        batch_specs({"label": np.zeros(4)}, ParallelConfig(tensor=2, tensor_divides="inputs"))


def test_a_negative_least_size_is_refused():
    with pytest.raises(ValueError, match="min_fsdp_mib=-1.0 must be 0 or more"):
        ParallelConfig(min_fsdp_mib=-1)
