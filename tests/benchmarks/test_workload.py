import dataclasses
import json

import numpy as np
import pytest

from benchmarks.cases import CASES, MODELS, Case
from benchmarks.workload import Workload


@pytest.fixture(scope="module")
def clips():
    case = next(case for case in CASES if MODELS[case.model].data == "clips")
    return case.workload(MODELS[case.model])


def test_a_clip_is_asked_in_the_published_chunks(clips):
    assert clips.chunk_sizes == (6272, 15)
    batch = clips.batch(0)
    clip, indices = batch["inputs"]["inputs"], batch["inputs"]["query_indices"]
    assert clip["image"].shape == (1, 16, 224, 224, 3)
    assert clip["audio"].shape == (1, 30_720, 1)
    assert clip["image"].min() >= 0 and clip["image"].max() < 1
    assert clip["audio"].min() < -0.9 and clip["audio"].max() > 0.9
    assert np.abs(clip["audio"]).max() <= 1
    firsts = {name: index[0, 0] for name, index in indices.items()}
    assert firsts["image"] // 6272 == firsts["audio"] // 15
    for (name, index), size in zip(indices.items(), clips.chunk_sizes, strict=True):
        assert firsts[name] % size == 0
        np.testing.assert_array_equal(index, firsts[name] + np.arange(size)[None])


def test_chunks_are_any_of_the_clip_and_none_beyond_it(clips):
    small = dataclasses.replace(clips, input_shape=(1, 2, 2, 2, 3), chunk_sizes=(2, 1))
    asked = [small.batch(seed)["inputs"]["query_indices"]["audio"].item() for seed in range(64)]
    assert set(asked) == {0, 1, 2, 3}


def test_a_workload_that_was_sent_to_another_process_draws_the_same(clips):
    sent = Workload(**json.loads(json.dumps(dataclasses.asdict(clips))))
    here, there = clips.batch(3)["inputs"], sent.batch(3)["inputs"]
    for part in here:
        for name, array in here[part].items():
            np.testing.assert_array_equal(there[part][name], array)


@pytest.mark.parametrize("kind", ["train_step", "cross_attention"])
def test_other_work_with_clips_is_refused(kind):
    case = Case("video_autoencoding", kind, 1, "huggingface")
    with pytest.raises(ValueError, match=f"{kind}/b1/huggingface: clips have kind 'forward' alone"):
        case.workload(MODELS[case.model])
