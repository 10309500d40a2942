"""The check of DeepMind's Perceiver AR against the one written anew, with padding."""

import numpy as np
import pytest

from interop import export_weights
from interop.__main__ import main
from interop.check import check, first_difference
from tests.interop.conftest import TABLE, deepmind_causal_model

pytest.importorskip("torch", reason="needs torch")
pytestmark = [pytest.mark.parity, pytest.mark.reference]

CASES = {
    "turned": {},
    "table": TABLE,
    "counted back": {"position_origin": "last"},
    "ahead": {
        "query_position_offset": 1,
        "initial_queries": "mlp",
        "rotary_heads_fraction": 0.5,
        "num_input_channels": 8,
        "num_cross_attention_qk_channels": 8,
    },
    "two latents": TABLE | {"num_latents_per_position": 2, "activation": "gelu_tanh"},
    "between": {"cross_attention_after_layers": (0,), "cross_attention_residual": False},
    "plain decoder": {"num_cross_attention_layers": 0, "initial_queries": "learned_shared"},
    "latents alone": {"max_latents": 12, "initial_queries": "learned"},
}
CROSS, SELF = "cross_attention/0", ("block/layer/0", "block/layer/1")
LAYERS = {
    "plain decoder": SELF,
    "between": (CROSS, SELF[0], "cross_attention/1", SELF[1]),
}


@pytest.fixture(scope="module")
def exported(released, tmp_path_factory):
    """A function that writes a tiny model of a case, and gives what names it to a check."""

    def export(name):
        path = tmp_path_factory.mktemp("deepmind") / "x.pickle"
        export_weights(released(deepmind_causal_model(**CASES[name])), "deepmind", path)
        return "deepmind", str(path)

    return export


@pytest.mark.parametrize("name", CASES)
def test_every_stage_agrees(exported, name):
    stages = check(*exported(name))
    assert [stage.name for stage in stages] == [
        "inputs",
        *(
            f"{at}/{part}"
            for at in LAYERS.get(name, (CROSS, *SELF))
            for part in ("attention", "mlp")
        ),
        "outputs",
    ]
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12


@pytest.mark.parametrize(
    ("name", "path", "stage"),
    [
        ("between", "block/layer/1/mlp/output/kernel", "block/layer/1/mlp"),
        ("between", "cross_attention/1/q_norm/scale", "cross_attention/1/attention"),
        ("ahead", "initial_queries/layer/1/kernel", "cross_attention/0/attention"),
        ("table", "input_adapter/position_embedding/0", "inputs"),
        ("turned", "output_norm/bias", "outputs"),
    ],
)
def test_a_perturbed_parameter_is_found_where_it_is_used(exported, name, path, stage, capsys):
    assert main(["check", *exported(name), f"--perturb={path}"]) == 1
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert f"the first stage that parts is {stage}, by" in verdict


def test_the_batch_can_be_given(exported, tmp_path, capsys):
    """With padding that reaches into the latents, and an example of nothing else."""
    ids = np.arange(24, dtype=np.int32).reshape(3, 8)
    mask = np.arange(8) >= np.array([[0], [5], [8]])
    batch = tmp_path / "batch.npz"
    np.savez(batch, inputs=ids, input_mask=mask, num_latents=np.asarray(6))
    assert main(["check", *exported("turned"), f"--batch={batch}"]) == 0
    assert "[3, 6, 16]" in capsys.readouterr().out
