"""Synthetic images carry their label and depend on nothing but seed and index."""

import numpy as np

from perceiver_jax.data.synthetic import SyntheticImages


def images(**changes):
    fields = {"image_shape": (4, 5, 3), "num_classes": 10, "num_examples": 50}
    return SyntheticImages(**fields | changes)


def test_an_example_depends_on_seed_and_index_alone():
    source = images()
    np.testing.assert_array_equal(source[3]["image"], images()[3]["image"])
    assert not np.array_equal(source[3]["image"], source[4]["image"])
    assert not np.array_equal(source[3]["image"], images(seed=1)[3]["image"])


def test_brightness_tells_the_class():
    source = images()
    by_label = {}
    for i in range(len(source)):
        example = source[i]
        assert example["image"].shape == (4, 5, 3) and example["image"].dtype == np.uint8
        by_label.setdefault(example["label"], []).append(int(example["image"].min()))
    assert set(by_label) <= set(range(10)) and len(by_label) > 5
    for label, darkest in by_label.items():
        assert min(darkest) >= 32 + 160 * label // 10
