"""What pipelines are made of: a source, a model or a release."""

import importlib

import pytest

from perceiver_jax.errors import UserError
from perceiver_jax.pipelines.mask_filling import MaskFilling
from perceiver_jax.pretrained import as_release

PIPELINES = {
    "image_classification": "ImageClassification",
    "mask_filling": "MaskFilling",
    "music_generation": "MusicGeneration",
    "optical_flow": "OpticalFlowEstimation",
    "text_classification": "TextClassification",
    "text_generation": "TextGeneration",
    "video_reconstruction": "VideoReconstruction",
}


def test_a_source_a_model_and_a_release_are_the_same_to_a_pipeline(text_release, tmp_path):
    released = text_release()
    released.save(tmp_path / "release")
    fills = MaskFilling(released)("a [MASK] is")
    for source in (released.model(), f"ours:{tmp_path / 'release'}"):
        assert MaskFilling(source)("a [MASK] is") == fills
    with pytest.raises(UserError, match="has no folder checkpoints"):
        as_release(tmp_path / "release")


@pytest.mark.parametrize("module", PIPELINES)
def test_every_pipeline_says_what_it_takes(module):
    pipeline = getattr(
        importlib.import_module(f"perceiver_jax.pipelines.{module}"), PIPELINES[module]
    )
    with pytest.raises(UserError, match="of type int is no model; give a workdir, FORMAT:PATH"):
        pipeline(3)
    with pytest.raises(UserError, match="there is no workdir runs/none"):
        pipeline("runs/none")
