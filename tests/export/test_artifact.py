"""Artifacts, run in a process that has not loaded this library, against the models they are of."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from perceiver_jax.card import ImagePreprocessing, ModelCard, TextPreprocessing
from perceiver_jax.core import fused
from perceiver_jax.errors import UserError
from perceiver_jax.export import artifact
from perceiver_jax.export.program import export_program
from perceiver_jax.export.signature import signature
from perceiver_jax.pipelines.image_classification import ImageClassification
from perceiver_jax.pipelines.text_classification import TextClassification
from tests.export.families import FAMILIES, SIZES, images

BATCHES = (1, 3)


def named(arguments):
    """Arrays of a call by the names that an artifact gives them."""
    found = {}
    for name, tree in arguments.items():
        parts = tree.items() if isinstance(tree, dict) else [(None, tree)]
        found |= {"/".join(filter(None, (name, key))): array for key, array in parts}
    return found


@pytest.fixture(scope="module")
def compared(tmp_path_factory, random_release, run_artifacts):
    """{family: [(what the artifact gave, what the model gives), for each size of batch]}."""
    root, wanted = tmp_path_factory.mktemp("artifacts"), {}
    for name, (config, data) in FAMILIES.items():
        released, sizes = random_release(config), SIZES.get(name, {})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(artifact, "_tried", lambda *_: None)  # it is tried below
            made = artifact.export_release(released, root / name, data=data, sizes=sizes)
        model = released.model()
        for batch in BATCHES:
            inputs = signature(config, sizes, data).drawn(batch)
            np.savez(made.folder / f"given-{batch}.npz", **named(inputs))
            wanted[name, batch] = jax.jit(lambda m, given: m(**given))(model, inputs)
    run_artifacts(*(root / name for name in FAMILIES))
    return root, wanted


def test_class_names_are_spoken_of_where_there_are_some(random_release, tmp_path):
    config = FAMILIES["image"][0]
    for labels in ((), ("cat", "dog", "owl")):
        released = dataclasses.replace(random_release(config), card=ModelCard(labels=labels))
        folder = artifact.export_release(released, tmp_path / str(len(labels))).folder
        told = (folder / "README.md").read_text()
        assert ("Class names" in told) == bool(labels) and "igests of both files" in told


@pytest.mark.parametrize("family", FAMILIES)
def test_an_artifact_gives_what_the_model_gives_without_the_library(compared, family):
    root, wanted = compared
    for batch in BATCHES:
        got = np.load(root / family / f"got-{batch}.npz")
        expected = wanted[family, batch]
        expected = expected if isinstance(expected, dict) else {"output": expected}
        assert set(got.files) == set(expected)
        for name, array in expected.items():
            assert len(array) == batch and np.abs(array).max() > 1e-3
            error = 2e-2 if family == "image_half" else 3e-6
            scale = float(np.abs(np.asarray(array, np.float32)).max())
            np.testing.assert_allclose(
                np.asarray(got[name], np.float32), np.asarray(array, np.float32), atol=error * scale
            )


@pytest.mark.parametrize("family", ["image", "mlm", "series", "video"])
def test_the_lines_of_the_readme_run(compared, family):
    folder = compared[0] / family
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shape = "(1, 12, 262)" if family == "mlm" else "(1, 3)"
    assert shape in done.stdout


def test_inputs_are_told_in_the_order_of_the_call(compared):
    told = json.loads((compared[0] / "series" / "artifact.json").read_text())
    assert told["call"] == "program.call(weights, inputs, input_mask)"
    assert [(one["argument"], one["keys"], one["shape"]) for one in told["inputs"]] == [
        ("inputs", ["times"], ["b", 32]),
        ("inputs", ["values"], ["b", 32, 2]),
        ("input_mask", [], ["b", 32]),
    ]
    assert told["inputs"][0]["most"] == 32.0 and told["outputs"][0]["shape"] == ["b", 3]
    assert told["program"]["platforms"] == ["cpu", "cuda", "tpu"]


def test_what_normalises_a_series_is_told(compared):
    told = json.loads((compared[0] / "series" / "artifact.json").read_text())
    data, constants = FAMILIES["series"][1], told["preprocessing"]["data"]["constants"]
    raw = data.open("test")[0]
    values = (raw["values"][:32] - np.array(constants["mean"])) / np.array(constants["deviation"])
    made = data.prepare(raw, None)
    np.testing.assert_allclose(
        made["inputs"]["values"][made["input_mask"]], values, rtol=1e-5, atol=1e-6
    )
    assert "data_dir" not in told["preprocessing"]["data"]["settings"]


def test_pixels_made_ready_as_told_get_the_same_class(random_release, tmp_path):
    how = ImagePreprocessing(
        image_shape=(8, 8, 3), crop=8 / 12, mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.1)
    )
    card = ModelCard(labels=("cat", "dog", "owl"), preprocessing=how)
    released = dataclasses.replace(random_release("image"), card=card)
    made = artifact.export_release(released, tmp_path / "made")
    told = json.loads((made.folder / "artifact.json").read_text())
    numbers = told["preprocessing"]["image"]
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (12, 17, 3), np.uint8) for _ in range(8)]
    side = int(numbers["crop"] * 12)
    top, left = -(-(12 - side) // 2), -(-(17 - side) // 2)
    squares = np.stack(pictures)[:, top : top + side, left : left + side].astype(np.float32)
    inputs = (squares * np.float32(numbers["scale"]) - np.float32(numbers["mean"])) / np.float32(
        numbers["std"]
    )
    program, weights = artifact.load_program(made.folder)
    found = np.asarray(jax.nn.softmax(program(weights, inputs)))
    guesses = ImageClassification(released)(pictures)
    for probabilities, wanted in zip(found, guesses, strict=True):
        order = np.argsort(-probabilities)
        assert [told["labels"][i] for i in order] == [label for label, _ in wanted]
        np.testing.assert_allclose(probabilities[order], [p for _, p in wanted], atol=1e-6)


def test_a_text_made_ready_as_told_gets_the_same_class(random_release, tmp_path):
    card = ModelCard(labels=("good", "bad", "so so"), text=TextPreprocessing())
    released = dataclasses.replace(random_release("text"), card=card)
    made = artifact.export_release(released, tmp_path / "made")
    told = json.loads((made.folder / "artifact.json").read_text())
    how, texts = told["preprocessing"]["text"], ["fine!", "é", "no", "well, well", "A"]
    ids = np.full((len(texts), told["inputs"][0]["shape"][1]), how["ids"]["pad"], np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, text in enumerate(texts):
        tokens = np.frombuffer(text.encode(), np.uint8) + len(how["special_ids"])
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
    program, weights = artifact.load_program(made.folder)
    probabilities = jax.nn.softmax(program(weights, ids, mask))
    wanted = np.stack(list(TextClassification(released).probabilities(texts)))
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    assert f"byte + {len(how['special_ids'])}" in how["steps"][0]


def test_one_size_of_batch_is_all_that_such_an_artifact_takes(random_release, tmp_path):
    made = artifact.export_release(random_release("image"), tmp_path / "made", batch_size=2)
    assert made.description["inputs"][0]["shape"] == [2, 8, 8, 3]
    program, weights = artifact.load_program(made.folder)
    assert program(weights, np.zeros((2, 8, 8, 3), np.float32)).shape == (2, 3)
    with pytest.raises(ValueError, match="8, 8, 3"):
        program(weights, np.zeros((1, 8, 8, 3), np.float32))


def test_a_kernel_that_runs_nowhere_else_is_left_out(random_release, monkeypatch):
    """On a machine whose default device is from NVIDIA, where cuDNN's attention would be taken."""
    config = images(compute_dtype="bfloat16", num_cross_attention_qk_channels=8)
    gpu = types.SimpleNamespace(
        client=types.SimpleNamespace(platform_version="cuda 12"), compute_capability="9.0"
    )
    real, asked = jax.local_devices, []
    monkeypatch.setattr(
        fused.jax, "local_devices", lambda *a, **k: real(*a, **k) if a or k else [gpu]
    )
    capability = fused.cuda_capability
    monkeypatch.setattr(
        "perceiver_jax.core.attention.cuda_capability",
        lambda: asked.append(capability()) or asked[-1],
    )
    assert capability() == (9, 0)
    export_program(config, signature(config, {}, None))
    assert asked and set(asked) == {None}


def test_an_artifact_far_from_its_model_is_not_kept(random_release, tmp_path, monkeypatch):
    released = random_release("image")
    monkeypatch.setattr(artifact, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(UserError, match="differs from the model by up to"):
        artifact.export_release(released, tmp_path / "made")
    assert not list((tmp_path / "made").iterdir())


def test_a_kill_leaves_the_old_artifact_or_none(random_release, tmp_path, monkeypatch):
    folder = tmp_path / "made"
    artifact.export_release(random_release("image"), folder)
    old = {path.name: path.read_bytes() for path in folder.iterdir()}

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(artifact, "_tried", stop)
        artifact.export_release(random_release("text"), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    real, moved = os.replace, []

    def twice(source, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(real(source, target))

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(artifact.os, "replace", twice)
        artifact.export_release(random_release("text"), folder)
    assert "artifact.json" not in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["checkpoints", "config.json"])
def test_a_run_or_a_release_is_not_written_over(random_release, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"has {name} in it"):
        artifact.export_release(random_release("image"), tmp_path)


def test_a_file_in_the_place_of_the_folder_is_an_error(random_release, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        artifact.export_release(random_release("image"), tmp_path / "taken")
