"""perceiver_jax computes the optical flow that Hugging Face, krasserm and DeepMind compute.

- In float64; what DeepMind's own code computed is in test_optical_flow_golden.
- Flow is compared in pixels: that of the references is multiplied by 20, DeepMind's by its setting.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import export_pretrained, load, load_pretrained, save
from interop.formats import krasserm
from interop.formats.krasserm.image_classifier import BUFFER, BUFFER_TOLERANCE, fourier_buffer
from interop.references import ReferenceMissing, frames
from interop.references import huggingface as huggingface_reference
from interop.references import krasserm as krasserm_reference
from perceiver_jax import models, params
from perceiver_jax.adapters.optical_flow import flow_patches
from perceiver_jax.core import decoder as core_decoder
from perceiver_jax.core.cross_attention import CrossAttentionLayer
from perceiver_jax.models import OpticalFlowEncoderConfig
from perceiver_jax.models.release import Release
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    assert_same_stages,
    bind,
    max_error,
    wanted,
)
from tests.parity.flow_pairs import (
    CASES,
    MASKED,
    SIZE,
    USUAL,
    Pair,
    krasserm_settings,
    make_frames,
    make_mask,
    make_pair,
)
from tests.parity.training import STEPS, assert_same_training

pytestmark = [pytest.mark.parity, pytest.mark.reference, pytest.mark.usefixtures("offline")]

TOLERANCE = 1e-10


@pytest.mark.parametrize(
    ("name", "masked"), [(name, False) for name in CASES] + [(name, True) for name in MASKED]
)
def test_stages(torch_float64, name, masked):
    pair = make_pair(name)
    inputs = {"inputs": make_frames()} | ({"input_mask": make_mask()} if masked else {})
    ours = bind(pair.structure, pair.arrays(jnp.float64)).stages(**inputs)
    theirs = pair.stages(inputs)
    assert list(ours) == [stage for stage, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)
    assert np.abs(ours["outputs"]).max() > 0.1


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(torch_float64, name):
    """The compiled model, which scans the repeated and deep layers that stages write out."""
    import torch

    pair, given = make_pair(name), make_frames()
    mask = None
    if name in MASKED:
        mask = make_mask()
        mask[-1, 0] = True
    flow = pair.flow(given, mask)
    weights = np.random.default_rng(2).normal(size=flow.shape)
    (flow * torch.from_numpy(weights)).sum().backward()
    theirs = load(
        pair.parameters,
        torch_models.gradients(pair.model),
        wanted(pair.structure, jnp.float64),
    )

    @partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def compute(arrays):
        def loss(arrays):
            flow = bind(pair.structure, arrays)(given, mask)
            return (flow * weights).sum(), flow

        return jax.grad(loss, has_aux=True)(arrays)

    ours, our_flow = compute(pair.arrays(jnp.float64))
    assert max_error(our_flow, flow.detach()) <= TOLERANCE
    assert_same_arrays(ours, theirs, TOLERANCE)


@pytest.mark.parametrize(
    "name",
    [
        "huggingface",
        "krasserm, channels of their own but for values",
        "deepmind, channels of their own, residual, other scales",
    ],
)
def test_twenty_steps_of_training(torch_float64, name):
    """On mean end-point errors."""
    pair = make_pair(name)
    rng = np.random.default_rng(3)
    batches = [
        {"frames": make_frames(seed=10 + i), "flow": rng.normal(size=(3, *SIZE, 2))}
        for i in range(STEPS)
    ]

    def their_loss(model, batch):
        flow = pair.flow(batch["frames"].numpy())
        return (flow - batch["flow"]).square().sum(-1).sqrt().mean()

    def our_loss(model, batch):
        flow = model(batch["frames"])
        return jnp.sqrt(((flow - batch["flow"]) ** 2).sum(-1)).mean()

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize("name", USUAL)
def test_compiled_inference_in_blocks(torch_float64, name, monkeypatch):
    """Of queries, the last of which is not full: stages ask all at once, the reference too."""
    size = (6, 7)
    pair, given = make_pair(name, size), make_frames(size=size)
    model = bind(pair.structure, pair.arrays(jnp.float64))
    whole = model.stages(given)["outputs"]
    monkeypatch.setattr(core_decoder, "SCORES_AT_ONCE", 1)
    monkeypatch.setattr(core_decoder, "LEAST_QUERIES", 10)
    asked = []
    answer = CrossAttentionLayer.answer

    def watched(*arguments, at_once, **others):
        asked.append(at_once)
        return answer(*arguments, at_once=at_once, **others)

    monkeypatch.setattr(CrossAttentionLayer, "answer", watched)
    compiled = jax.jit(lambda model, given: model(given), compiler_options=QUICK_COMPILATION)
    flow = compiled(model, given)
    assert asked == [10]
    errors = max_error(flow.reshape(3, -1, 2), whole), max_error(flow, pair.flow(given).detach())
    print(f"flow of order {np.abs(whole).max():.1f} in blocks: {max(errors):.1e}")
    assert max(errors) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name):
    """Theirs → ours → theirs is exact, and the class itself takes the result."""
    import torch

    pair = make_pair(name)
    theirs, ours = torch_models.state(pair.model), pair.arrays()
    back = save(pair.rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    if BUFFER in theirs:
        assert max_error(back.pop(BUFFER), theirs[BUFFER]) <= BUFFER_TOLERANCE
    for tensor in back:
        np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)

    torch_models.randomise(pair.model, seed=99)
    saved = save(pair.rows, ours)
    tensors = {tensor: torch.from_numpy(array.copy()) for tensor, array in saved.items()}
    pair.model.load_state_dict(tensors, strict=True)
    again = pair.arrays()
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


def released(pair: Pair) -> Any:
    rng = np.random.default_rng(3)
    arrays = {
        path: (rng.uniform(-0.3, 0.3, x.shape) + 0.5 * (len(x.shape) == 1)).astype(x.dtype)
        for path, x in pair.structure.params.items()
    }
    return Release(config=pair.config, arrays=arrays).model()


def test_an_exported_folder_loads_with_from_pretrained(tmp_path):
    """Its flow is 20 times smaller, and its inputs are patches."""
    import torch
    import transformers

    pair, given = make_pair("huggingface"), make_frames("float32")
    model = released(pair)
    (note,) = export_pretrained(model, "huggingface", tmp_path / "model").remarks
    assert "in units of 20 pixels" in note
    with huggingface_reference.quiet():
        theirs, report = transformers.PerceiverForOpticalFlow.from_pretrained(
            tmp_path / "model", output_loading_info=True
        )
    assert not any(report.values()), report
    patches = np.moveaxis(np.asarray(flow_patches(given)), -1, 2)
    with torch.no_grad(), huggingface_reference.quiet():
        flow = theirs.eval()(inputs=torch.from_numpy(np.ascontiguousarray(patches))).logits.numpy()
    error = max_error(model(given), 20 * flow)
    print(f"flow of order {20 * np.abs(flow).max():.1f}: {error:.1e}")
    assert error <= 1e-5
    again = load_pretrained("huggingface", tmp_path / "model")
    assert again.config == pair.config
    np.testing.assert_array_equal(again(given), model(given))


def test_a_folder_that_the_class_saved_is_read(tmp_path):
    """Whatever preprocessor of pictures lies there, frames are made of them otherwise."""
    pair, given = make_pair("huggingface"), make_frames("float32")
    with huggingface_reference.quiet():
        pair.model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_resize": false, "resample": 7}')
    model = load_pretrained("huggingface", tmp_path)
    assert model.config == pair.config
    assert model.card.preprocessing is None
    assert max_error(model(given), pair.flow(given).detach()) <= 1e-5


def test_every_tensor_of_krasserms_published_size_has_one_row():
    """By shapes alone, on a device without memory."""
    import torch

    published = models.optical_flow_perceiver()
    config = dataclasses.replace(
        published,
        encoder=dataclasses.replace(published.encoder, activation="gelu"),
        decoder=dataclasses.replace(published.decoder, activation="gelu"),
    )
    with torch.device("meta"):
        try:
            model = krasserm_reference.build(krasserm.settings(config))
        except ReferenceMissing as error:
            pytest.skip(str(error))
    theirs = {
        name: np.broadcast_to(np.zeros((), np.float32), tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    del theirs[BUFFER]
    structure = models.skeleton(config)
    rows = [row for row in krasserm.rows(config) if row.default is None]
    assert params.count(structure.params) == 41_057_134
    assert save(rows, load(rows, theirs, wanted(structure)), theirs).keys() == theirs.keys()


def test_fourier_buffer_of_published_size():
    settings = krasserm_settings(
        {"image_shape": (368, 496), "num_frequency_bands": 64}, {"image_shape": (368, 496)}
    )
    try:
        theirs = torch_models.state(krasserm_reference.build(settings))[BUFFER]
    except ReferenceMissing as error:
        pytest.skip(str(error))
    row = fourier_buffer(OpticalFlowEncoderConfig(), BUFFER)
    assert row.default is not None
    ours = row.default({"encoder/latents": np.zeros((), np.float32)})
    error = max_error(ours, theirs)
    print(f"position features of 368×496 pixels: {error:.1e}")
    assert error <= BUFFER_TOLERANCE


def test_patches_of_the_references_are_ours():
    given = make_frames("float32")
    np.testing.assert_array_equal(np.moveaxis(frames.patches(given), 2, -1), flow_patches(given))
