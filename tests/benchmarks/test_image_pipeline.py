import dataclasses

import cv2
import numpy as np
import pytest

from benchmarks import image_pipeline
from benchmarks.image_pipeline import Speed

pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def photos():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 500, 3), np.uint8)
    return [noise, cv2.GaussianBlur(noise, (0, 0), 3)]


def test_files_are_as_large_as_those_of_imagenet(photos):
    files = image_pipeline.jpeg_files(photos, 3)
    assert len(set(files)) == 3
    for file in files:
        assert cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR).shape == (375, 500, 3)
        assert len(file) <= 55_000
    # Noise takes more than that at the best quality.
    assert len(files[0]) > 40_000


def test_all_cases_are_measured_on_the_prepared_files(photos, tmp_path):
    image_pipeline.prepare(image_pipeline.jpeg_files(photos, 4), str(tmp_path))
    cases = image_pipeline.cases(str(tmp_path))
    assert [(x.resampling, x.mixing) for x in cases.values()] == [
        ("area", "none"),
        ("bicubic", "none"),
        ("bicubic", "mixup_cutmix"),
    ]
    for config in cases.values():
        config = dataclasses.replace(config, batch_size=2)
        speed = image_pipeline.measure(config, num_images=3, num_threads=1)
        assert speed.images_per_second > 0 and speed.cpu_seconds > 0


def test_the_command_prints_a_row_for_each_case(photos, monkeypatch, capsys):
    def measure(config, *, num_images, num_threads):
        assert (num_images, num_threads) == (64, 3)
        return Speed(1500.0, 0.00125)

    monkeypatch.setattr(image_pipeline, "load_photos", lambda split: photos)
    monkeypatch.setattr(image_pipeline, "NUM_FILES", 2)
    monkeypatch.setattr(image_pipeline, "measure", measure)
    monkeypatch.setattr(image_pipeline.os, "sched_getaffinity", lambda process: {0, 1})
    image_pipeline.main(["--images", "64", "--threads", "3"])
    rows = [line for line in capsys.readouterr().out.splitlines() if "1,500" in line]
    assert len(rows) == 3 and all("1.25" in row and "1,600" in row for row in rows)
