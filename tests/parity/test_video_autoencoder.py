"""perceiver_jax computes what Hugging Face's autoencoder of clips computes, and DeepMind's.

- Tiny random models of their own class in float64; 32 and 192 frequency bands stand in its code.
- Theirs asks all modalities at once, at chosen points; all points are those of our whole call.
- DeepMind's function, put together from their modules, has the numbers of bands of its files.
"""

from typing import Any

import numpy as np
import pytest

from interop import load, save
from interop.foreign import Foreign
from interop.formats import deepmind, huggingface
from interop.formats.huggingface import video_autoencoder as family
from interop.formats.huggingface.video_autoencoder import CLASSES
from interop.references import deepmind as deepmind_reference
from interop.references import huggingface as reference
from perceiver_jax import models
from tests.parity import torch_models, training
from tests.parity.clip_pairs import (
    Pair,
    assert_covered,
    assert_same_forward_pass,
    assert_same_gradients,
    assert_same_twenty_steps,
    golden_inputs,
    make_clip,
    make_points,
    randomise,
    tiny_deepmind,
)
from tests.parity.comparison import bind, max_error, wanted

pytestmark = [pytest.mark.parity, pytest.mark.reference, pytest.mark.usefixtures("offline")]

GOLDEN_TOLERANCE = 2e-5
NUM_CLASSES = 5
TINY = {
    "architectures": list(CLASSES),
    "num_latents": 3,
    "d_latents": 8,
    "num_blocks": 2,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1,
    "num_labels": NUM_CLASSES,
    # A grid of 2×3 patches, of frequencies as if it were 3×3.
    "num_frames": 2,
    "output_shape": [1, 2, 8, 12],
    "image_size": 3,
    "audio_samples_per_frame": 12,
    "samples_per_patch": 4,
    "output_num_channels": 6,
    "_label_trainable_num_channels": 10,
}
CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "tanh form of GELU": {"hidden_act": "gelu_pytorch_tanh"},
    "no residual": {"use_query_residual": False},
    "shape of the queries": {
        "cross_attention_shape_for_attention": "q",
        "num_cross_attention_heads": 4,
        "cross_attention_widening_factor": 2,
    },
    "channels of their own": {
        "qk_channels": 4,
        "v_channels": 8,
        "num_cross_attention_heads": 2,
        "self_attention_widening_factor": 3,
    },
    "the label widest": {"num_labels": 400, "_label_trainable_num_channels": 400},
    "time of its own": {"num_frames": 4, "audio_samples_per_frame": 6},
    "twelve layers": {"num_self_attends_per_block": 12, "num_blocks": 1},
}
DEEPMIND_CASES: dict[str, dict[str, Any]] = {
    "as the files": {},
    "label shown": {"mask_probs": {"audio": 0.0, "image": 0.0, "label": 0.0}},
    "other sizes": {
        "spatial_downsample": 2,
        "image_size": [4, 6],
        "image_pos_size": 5,
        "audio_bands": 5,
        "input_min_padding_size": 1,
        "encoder": {
            "num_self_attends_per_block": 12,
            "num_cross_attend_heads": 4,
            "cross_attention_shape_for_attn": "q",
            "z_index_dim": 6,
            "num_z_channels": 16,
            "num_self_attend_heads": 2,
            "use_query_residual": False,
            "name": "encoder",
        },
    },
}


def make_pair(name: str) -> Pair:
    settings = {**TINY, **CASES[name]}
    model = reference.build(settings)
    randomise(model, seed=len(name))
    config = huggingface.config(settings)
    return Pair(model, config, models.skeleton(config), huggingface.rows(config))


def deepmind_pair(golden, name: str) -> Pair:
    """Its rows are those of Hugging Face's modules, of which the reference is made."""
    settings = tiny_deepmind(golden)[0] | DEEPMIND_CASES[name]
    model = deepmind_reference.build(settings)
    randomise(model, seed=len(name))
    config = deepmind.config(settings)
    rows = family.state_dict_rows(config)
    return Pair(model, config, models.skeleton(config), rows)


class TestHuggingFace:
    @pytest.mark.parametrize("name", CASES)
    def test_stages(self, torch_float64, name):
        assert_same_forward_pass(make_pair(name))

    @pytest.mark.parametrize("name", CASES)
    def test_outputs_and_gradients(self, torch_float64, name):
        assert_same_gradients(make_pair(name))

    def test_twenty_steps_of_training(self, torch_float64, monkeypatch):
        # Of layers 390 channels wide, a larger step moves answers by more than they are.
        monkeypatch.setattr(training, "LEARNING_RATE", 1e-3)
        assert_same_twenty_steps(make_pair("usual"))

    @pytest.mark.parametrize("name", ["usual", "channels of their own"])
    def test_round_trip(self, name):
        """Theirs → ours → theirs is exact, and the class itself takes the result."""
        import torch

        pair = make_pair(name)
        theirs = torch_models.state(pair.model)
        ours = load(pair.rows, theirs, wanted(pair.structure))
        back = save(pair.rows, ours, want=theirs)
        assert back.keys() == theirs.keys()
        for tensor in back:
            np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)
        torch_models.randomise(pair.model, seed=99)
        tensors = {tensor: torch.from_numpy(array.copy()) for tensor, array in back.items()}
        pair.model.load_state_dict(tensors, strict=True)
        again = load(pair.rows, torch_models.state(pair.model), wanted(pair.structure))
        for path in ours:
            np.testing.assert_array_equal(again[path], ours[path], err_msg=path)

    def test_an_exported_folder_loads_with_from_pretrained(self, tmp_path):
        import transformers

        pair = make_pair("time of its own")
        arrays = load(pair.rows, torch_models.state(pair.model), wanted(pair.structure))
        labels = tuple(f"kind {i}" for i in range(NUM_CLASSES))
        foreign = Foreign(
            arrays=save(pair.rows, arrays),
            settings=huggingface.settings(pair.config),
            labels=labels,
        )
        huggingface.write(tmp_path / "model", foreign)
        with reference.quiet():
            model, report = getattr(transformers, CLASSES[0]).from_pretrained(
                tmp_path / "model", output_loading_info=True
            )
        assert not any(report.values()), report
        assert model.config.id2label == dict(enumerate(labels))
        clip = make_clip(pair.config, dtype="float32")
        inputs = {"inputs": clip, "query_indices": make_points(pair.config)}
        theirs = reference.forward(model.eval(), inputs)
        ours = bind(pair.structure, arrays)(**inputs)
        errors = {
            name: max_error(ours[name].reshape(theirs[name].shape), theirs[name].detach())
            for name in theirs
        }
        print(errors)
        assert max(errors.values()) <= 1e-4
        again = huggingface.read(tmp_path / "model")
        assert again.labels == labels and again.preprocessing is None
        assert huggingface.config(again.settings) == pair.config

    def test_a_folder_that_the_class_saved_is_read(self, tmp_path):
        pair = make_pair("usual")
        with reference.quiet():
            pair.model.save_pretrained(tmp_path)
        found = huggingface.read(tmp_path)
        assert huggingface.config(found.settings) == pair.config
        load(pair.rows, found.arrays, wanted(pair.structure))

    def test_full_size_names_and_shapes_of_the_installed_class(self):
        """Every tensor of the class has one row, both ways, and none is left over."""
        import torch

        settings = {
            "architectures": list(CLASSES),
            "num_latents": 784,
            "d_latents": 512,
            "num_self_attends_per_block": 8,
            "num_cross_attention_heads": 1,
            "num_labels": 700,
        }
        with torch.device("meta"):
            theirs = {
                tensor: np.broadcast_to(np.zeros((), str(x.dtype).removeprefix("torch.")), x.shape)
                for tensor, x in reference.build(settings).state_dict().items()
            }
        assert_covered(huggingface, huggingface.config(settings), theirs)

    def test_all_points_at_once_are_beyond_theirs(self):
        pair = make_pair("usual")
        import torch

        clip = {
            "image": torch.zeros((1, 2, 3, 8, 12)),
            "audio": torch.zeros((1, 24, 1)),
            "label": torch.zeros((1, NUM_CLASSES)),
        }
        with reference.quiet(), pytest.raises((RuntimeError, ValueError)):
            pair.model(inputs=clip)


class TestDeepMindsFunction:
    """From Hugging Face's modules: every stage, and gradients, in float64."""

    def test_it_is_that_of_the_files(self, golden):
        settings, weights, arrays = tiny_deepmind(golden)
        stages = dict(deepmind_reference.run(settings, weights, golden_inputs(arrays)))
        found = {
            "audio": stages["decoder/audio/outputs"].reshape(2, -1),
            "image": stages["decoder/image/outputs"],
            "label": stages["decoder/label/outputs"][:, 0],
        }
        errors = {name: max_error(found[name], arrays[f"outputs/{name}"]) for name in found}
        print(errors)
        assert max(errors.values()) <= GOLDEN_TOLERANCE

    @pytest.mark.parametrize("name", DEEPMIND_CASES)
    def test_stages(self, golden, torch_float64, name):
        assert_same_forward_pass(deepmind_pair(golden, name))

    @pytest.mark.parametrize("name", DEEPMIND_CASES)
    def test_outputs_and_gradients(self, golden, torch_float64, name):
        assert_same_gradients(deepmind_pair(golden, name))

    def test_twenty_steps_of_training(self, golden, torch_float64):
        assert_same_twenty_steps(deepmind_pair(golden, "as the files"))
