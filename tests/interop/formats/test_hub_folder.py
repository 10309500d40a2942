"""Folders of `save_pretrained`: entries that cannot be used, and what a write leaves."""

import json
import math

import numpy as np
import pytest

from interop.files import FileError
from interop.formats import hub_folder
from interop.formats.hub_folder import HubFolder, image_preprocessing, processor_settings
from perceiver_jax.card import ImagePreprocessing

USUAL = processor_settings(ImagePreprocessing(resampling="pillow"))
WEIGHTS = {"w": np.arange(3, dtype=np.float32)}


def test_the_usual_settings_are_understood():
    assert image_preprocessing(USUAL, 3) == ImagePreprocessing(resampling="pillow")
    # As the released models have it.
    assert image_preprocessing(USUAL | {"size": 224, "crop_size": 256}, 3).crop == 224 / 256
    uncropped = USUAL | {"do_center_crop": False, "crop_size": None}
    assert image_preprocessing(uncropped, 3).crop is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"size": {"shortest_edge": 224}}, r"size=\{'shortest_edge': 224\}"),
        ({"size": None}, "size=None"),
        ({"size": [224, 224]}, r"size=\[224, 224\]"),
        ({"size": 22.5}, "size=22.5"),
        ({"size": {"height": True, "width": 4}}, "size="),
        ({"crop_size": 0}, "crop_size=0"),
        ({"crop_size": None}, "crop_size=None"),
        ({"crop_size": {"height": math.nan, "width": 256}}, "crop_size="),
        ({"crop_size": 100}, r"crop=2.24, .*\(0, 1\]"),
        ({"image_mean": "x"}, "image_mean='x'"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean=\[0.5, 0.5\]"),
        ({"image_mean": [0.5, 0.5, math.inf]}, "image_mean="),
        ({"image_std": [0.0, 0.0, 0.0]}, "std=.* greater than 0"),
        ({"image_std": None}, "image_std=None"),
        ({"rescale_factor": "x"}, "rescale_factor='x'"),
        ({"rescale_factor": 1.0}, "rescale_factor=1.0"),
        ({"resample": 2}, "resample=2"),
        ({"crop_size": {"height": 256, "width": 300}}, "crop_size="),
        ({"do_resize": False}, "without resizing"),
    ],
)
def test_settings_that_ours_does_not_have_are_refused_by_name(change, complaint):
    with pytest.raises(FileError, match=f"preprocessor_config.json.*{complaint}"):
        image_preprocessing(USUAL | change, 3)


def test_pictures_that_stay_as_large_as_they_are_need_a_size():
    # Their size would be a guess; where it is named, it has to be the model's own.
    fixed = USUAL | {"do_center_crop": False, "do_resize": False}
    assert image_preprocessing(fixed, 3).image_shape == (224, 224, 3)
    with pytest.raises(FileError, match="do_resize=False.*no size"):
        image_preprocessing({k: v for k, v in fixed.items() if k != "size"}, 3)


@pytest.mark.parametrize("names", [["tench"], 7, "tench", 0, []])
def test_names_of_classes_that_are_no_mapping_are_refused(names):
    with pytest.raises(FileError, match=r"config.json has id2label="):
        hub_folder.labels({"id2label": names})


def test_names_of_classes_are_in_order():
    assert hub_folder.labels({"id2label": {"1": "dog", "0": "cat"}}) == ("cat", "dog")
    assert hub_folder.labels({"id2label": None}) == hub_folder.labels({}) == ()
    with pytest.raises(FileError, match="has no class '1'"):
        hub_folder.labels({"id2label": {"0": "cat", "2": "dog"}})


@pytest.mark.parametrize("side", [16, 28, 224, 299])
@pytest.mark.parametrize("crop", [0.875, 0.9, 1 / 3, 1.0])
def test_the_cropped_fraction_survives(side, crop):
    how = ImagePreprocessing(image_shape=(side, side, 3), crop=crop, resampling="pillow")
    again = image_preprocessing(json.loads(json.dumps(processor_settings(how))), 3)
    assert again.crop == pytest.approx(crop, rel=1e-15)
    sides = range(1, 1000)
    assert [int(again.crop * n) for n in sides] == [int(crop * n) for n in sides]


def test_published_sizes_stay_whole_numbers():
    assert json.dumps(USUAL["crop_size"]) == '{"height": 256, "width": 256}'


@pytest.fixture
def folder(tmp_path):
    """An earlier model, with everything that it may leave behind."""
    earlier = HubFolder(config={"old": 1}, arrays=WEIGHTS, preprocessing=ImagePreprocessing())
    hub_folder.write(tmp_path, earlier)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"old")
    (tmp_path / "README.md").write_text("kept")
    return tmp_path


def test_nothing_of_an_earlier_model_stays(folder):
    hub_folder.write(folder, HubFolder(config={"new": 1}, arrays=WEIGHTS))
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md"}
    assert hub_folder.read(folder).config == {"new": 1}


def test_a_write_that_fails_leaves_no_config_of_another_model(folder):
    with pytest.raises(FileError, match="as safetensors"):
        bad = {"w": np.zeros(1, "c8"), "text": np.zeros(1, "U1")}
        hub_folder.write(folder, HubFolder(config={"new": 1}, arrays=bad))
    assert not (folder / "config.json").exists()
