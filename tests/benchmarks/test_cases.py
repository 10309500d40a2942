"""Every case in a tiny form, through the code that measures: the same two processes for all."""

import dataclasses

import pytest

from benchmarks import pair, peers, weights
from benchmarks.cases import CASES, MODELS, Case, Stretch
from benchmarks.peers import PEERS
from perceiver_jax import models, params

TINY = {case.name: case for case in (case.tiny() for case in CASES)}
"""Those that differ in batch size alone are one."""

pytestmark = [pytest.mark.parity, pytest.mark.reference]


@pytest.fixture(scope="module", autouse=True)
def references():
    for package in ("torch", "perceiver", "perceiver_pytorch", "transformers"):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def workers():
    with pair.start() as started:
        yield started


@pytest.mark.parametrize("case", TINY.values(), ids=TINY)
def test_both_sides_do_the_same(case, workers, tmp_path):
    model = MODELS[case.model].tiny()
    result = pair.measure(case, model, workers, tmp_path, rounds=2)
    assert result.difference < 1e-4
    assert [len(result.seconds[side]) for side in ("ours", "peer")] == [2, 2]
    ours, peer = result.facts["ours"], result.facts["peer"]
    assert ours["num_parameters"] == peer["num_parameters"]
    assert min(ours["num_threads"], peer["num_threads"]) >= 1
    if case.kind != "decode":
        assert ours["temporary_bytes"] > 0
        assert min(ours["lower_seconds"], ours["compile_seconds"]) > 0


def test_other_weights_are_found_out(workers, tmp_path, monkeypatch):
    write = weights.write

    def disturb(config, peer, folder):
        ours, theirs = write(config, peer, folder)
        drawn = weights.draw(config)
        drawn.arrays["encoder/cross_attention/0/attention/value/bias"][:] += 0.1
        drawn.save(ours)
        return ours, theirs

    monkeypatch.setattr(weights, "write", disturb)
    with pytest.raises(pair.Differs, match="outputs differ by"):
        pair.measure(CASES[0], MODELS["imagenet_a"].tiny(), workers, tmp_path, rounds=1)


def test_tokens_of_other_weights_are_found_out(workers, tmp_path, monkeypatch):
    write = weights.write

    def disturb(config, peer, folder):
        ours, theirs = write(config, peer, folder)
        drawn = weights.draw(config)
        values = "block/layer/0/attention/value/kernel"
        arrays = {**drawn.arrays, values: -drawn.arrays[values]}
        dataclasses.replace(drawn, arrays=arrays).save(ours)
        return ours, theirs

    monkeypatch.setattr(weights, "write", disturb)
    case = Case("causal_bytes", "decode", 2, "krasserm", stretch=Stretch(16, 2, 6))
    with pytest.raises(pair.Differs, match="outputs differ by"):
        pair.measure(case, MODELS[case.model].tiny(), workers, tmp_path, rounds=1)


def test_only_tokens_before_the_latents_are_used_up_are_compared():
    model = MODELS["causal_bytes"]
    for stretch, num_alike in ((Stretch(2048, 1, 128), 128), (Stretch(2048, 256, 512), 256)):
        case = Case("causal_bytes", "decode", 1, "krasserm", stretch=stretch)
        assert case.workload(model).num_alike == num_alike


def test_a_peer_without_sequences_is_refused(tmp_path):
    case = Case("causal_bytes", "train_step", 1, "huggingface")
    workload = case.workload(MODELS[case.model].tiny())
    with pytest.raises(ValueError, match="'huggingface' has no models of sequences"):
        peers.load(case.peer, tmp_path, workload)


def test_the_process_of_a_peer_holds_no_jax(tmp_path, run_python):
    case, tiny = CASES[0], MODELS["imagenet_a"].tiny()
    _, theirs = weights.write(tiny.config, PEERS[case.peer], tmp_path)
    run_python(f"""
        import pathlib, sys
        import benchmarks.worker
        from benchmarks import peers
        from benchmarks.workload import Workload

        workload = {case.workload(tiny)!r}
        loaded = peers.load({case.peer!r}, pathlib.Path({str(theirs)!r}), workload)
        loaded.run(loaded.place(workload.batch(0)))
        assert not {{"jax", "jaxlib"}} & set(sys.modules)
        """)


def test_a_peer_without_the_kind_of_work_is_refused(tmp_path):
    case = Case("imagenet_a", "cross_attention", 1, "huggingface")
    workload = case.workload(MODELS[case.model].tiny())
    with pytest.raises(ValueError, match="'huggingface' has no cross_attend"):
        peers.load(case.peer, tmp_path, workload)


def test_models_have_their_published_number_of_parameters():
    counts = {
        name: params.count(models.skeleton(model.config).params) for name, model in MODELS.items()
    }
    assert counts == {
        "imagenet_a": 48_440_627,
        "mnist": 907_212,
        "lucidrains_readme": 70_395_972,
        "language_perceiver": 201_108_230,
        "language_perceiver_small": 37_307_654,
        "optical_flow": 41_057_134,
        "optical_flow_small": 11_866_990,
        "video_autoencoding": 19_858_855,
        "resampler": 49_620_992,
        "causal_bytes": 30_563_078,
    }
