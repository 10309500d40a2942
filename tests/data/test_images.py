"""Random crops and warps of single images, and batches of mixed ones."""

import contextlib
import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import (
    DatasetError,
    ImageDataConfig,
    Shard,
    image_batches,
    images,
    pipeline,
    rand_augment,
    sources,
)

CONFIG = ImageDataConfig(dataset="synthetic")


class Fixed:
    """A random generator whose every number is `value` of the way from low to high."""

    def __init__(self, value):
        self.value = value

    def uniform(self, low=0.0, high=1.0, size=None):
        number = low + self.value * (high - low)
        return number if size is None else np.full(size, number)

    def random(self):
        return self.value


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("std", [(0.0,), (0.5, -0.5, 0.5)])
def test_a_deviation_that_is_not_positive_is_refused(std):
    with pytest.raises(ValueError, match="std=.* must be above 0"):
        dataclasses.replace(CONFIG, std=std)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rand_augment_layers": -1}, "rand_augment_layers=-1 must be 0 or more"),
        ({"rand_augment_magnitude": 10.5}, r"rand_augment_magnitude=10.5 is not in \[0, 10\]"),
        ({"rand_augment_magnitude": -1.0}, r"rand_augment_magnitude=-1.0 is not in \[0, 10\]"),
        ({"mixing": "blend"}, "mixing='blend' is none of 'none', 'mixup', 'cutmix', 'mixup_cutm"),
        ({"mixup_alpha": 0.0}, "mixup_alpha=0.0 must be finite and above 0"),
        ({"mixup_alpha": float("inf")}, "mixup_alpha=inf must be finite and above 0"),
        ({"resampling": "nearest"}, "resampling='nearest' is none of 'area', 'bicubic'"),
    ],
)
def test_an_impossible_augmentation_is_refused_with_its_field(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **fields)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 1, 3), (13, 7, 3), (7, 13, 1), (64, 33, 1)])
def test_crops_of_odd_inputs_are_parts_of_them(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for seed in range(40):
        crop = images.random_crop(image, np.random.default_rng(seed))
        assert crop.size > 0 and crop.shape[-1] == shape[-1]
        assert crop.base is image or crop.base is image.base


def crops(height, width, count):
    """Where random crops lie, [count, (top, left, height, width)], from an image that tells."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows, columns], axis=-1)
    rng = np.random.default_rng(0)
    found = [images.random_crop(image, rng) for _ in range(count)]
    return np.array([(*crop[0, 0], *crop.shape[:2]) for crop in found])


def test_random_crops_cover_the_documented_area_and_aspect():
    top, left, height, width = crops(300, 400, 2000).T
    area, aspect = height * width / (300 * 400), width / height
    assert 0.1 <= area.min() < 0.11 and 0.9 < area.max() <= 1.0
    assert 0.74 < aspect.min() < 0.77 and 1.31 < aspect.max() < 1.34
    # Uniform between 3/4 and 4/3, where it could as well be the logarithm.
    assert aspect.mean() == pytest.approx(25 / 24, abs=0.015)
    assert (top + height).max() == 300 and (left + width).max() == 400
    assert top.min() == left.min() == 0


def test_crops_keep_their_aspect_where_the_image_is_narrow():
    height, width = crops(400, 200, 1000)[:, 2:].T
    assert (width / height).min() > 0.74 and width.max() == 200


def test_heights_of_crops_are_drawn_evenly_for_their_aspect():
    height, width = crops(400, 400, 3000)[:, 2:].T
    square = np.abs(width / height - 1) < 0.05
    # From √0.1 rather than √0.08 on, as what has less than a tenth of the area is drawn again.
    share = height[square] / 400
    assert share.mean() == pytest.approx((0.1**0.5 + 0.97) / 2, abs=0.03)
    assert np.median(share) == pytest.approx(share.mean(), abs=0.03)


def test_where_no_crop_fits_it_is_the_central_square():
    np.testing.assert_array_equal(crops(20, 400, 5), [[2, 192, 17, 17]] * 5)
    np.testing.assert_array_equal(crops(1, 1, 5), [[0, 0, 1, 1]] * 5)


def test_a_crop_of_everything_is_the_central_square():
    found = crops(4, 4, 300)
    assert (found[:, 2] * found[:, 3]).max() < 16
    assert (found == [1, 1, 3, 3]).all(-1).sum() > (found == [0, 0, 3, 3]).all(-1).sum() + 20


def test_a_warp_without_range_returns_the_image(picture):
    assert images.random_warp(picture, CONFIG, np.random.default_rng(0)) is picture


def test_a_warp_that_draws_zeros_changes_nothing(picture):
    config = dataclasses.replace(CONFIG, max_shift=3, max_rotation=20, max_scale=0.2, max_shear=0.2)
    np.testing.assert_array_equal(images.random_warp(picture, config, Fixed(0.5)), picture)


@pytest.mark.parametrize("shift", [1, 2])
def test_a_shift_moves_by_whole_pixels_and_leaves_a_black_border(picture, shift):
    config = dataclasses.replace(CONFIG, max_shift=float(shift))
    for value, forward in ((1.0, True), (0.0, False)):
        moved = images.random_warp(picture, config, Fixed(value))
        want = np.zeros_like(picture)
        if forward:
            want[shift:, shift:] = picture[:-shift, :-shift]
        else:
            want[:-shift, :-shift] = picture[shift:, shift:]
        np.testing.assert_array_equal(moved, want)


def test_a_quarter_turn_is_a_quarter_turn_about_the_centre():
    square = np.random.default_rng(0).integers(0, 256, (7, 7, 1), np.uint8)
    config = dataclasses.replace(CONFIG, max_rotation=90.0)
    turned = images.random_warp(square, config, Fixed(1.0))
    # [column, row] of a point goes to [-row, column]: clockwise, as rows count downwards.
    want = np.rot90(square, -1)
    assert np.abs(turned.astype(int) - want).max() <= 1


def test_zoom_and_shear_keep_the_centre_and_move_the_rest():
    image = np.zeros((21, 21, 1), np.uint8)
    image[10, 10] = image[10, 14] = image[14, 10] = 255
    zoom = dataclasses.replace(CONFIG, max_scale=0.5)
    zoomed = images.random_warp(image, zoom, Fixed(1.0))
    assert zoomed[10, 10] == 255 and zoomed[10, 16] == 255 and zoomed[16, 10] == 255
    shear = dataclasses.replace(CONFIG, max_shear=0.5)
    sheared = images.random_warp(image, shear, Fixed(1.0))
    assert sheared[10, 10] == 255 and sheared[10, 14] == 255 and sheared[14, 12] == 255


def test_a_warp_keeps_the_channel_axis_of_grey_images():
    image = np.full((5, 6, 1), 9, np.uint8)
    config = dataclasses.replace(CONFIG, max_shift=1.0)
    assert images.random_warp(image, config, np.random.default_rng(0)).shape == (5, 6, 1)


def test_flipping_mirrors_about_half_of_the_training_images_and_no_held_out_one(monkeypatch):
    class Halves:
        class_names = ("only",)

        def __len__(self):
            return 200

        def __getitem__(self, index):
            return {"image": np.array([[[0], [255]]], np.uint8), "label": 0}

    monkeypatch.setitem(sources.DATASETS, "halves", lambda split: Halves())
    config = ImageDataConfig(
        dataset="halves", batch_size=200, eval_batch_size=200, random_flip=True
    )

    def mirrored(training):
        batches = image_batches(config, training=training, seed=0, shard=Shard())
        image = batches[0]["image"]
        assert set(np.unique(image)) == {-1.0, 1.0}
        return int((image[:, 0, 0, 0] > image[:, 0, 1, 0]).sum())

    assert 70 < mirrored(training=True) < 130
    assert mirrored(training=False) == 0


class Ramps:
    """Brightness that tells the label and grows to the right."""

    class_names = ("dark", "middle", "light")

    def __len__(self):
        return 24

    def __getitem__(self, index):
        ramp = np.arange(20, dtype=np.uint8) + 70 * (index % 3)
        return {"image": np.broadcast_to(ramp[:, None], (30, 20, 3)), "label": index % 3}


@pytest.fixture
def ramps(monkeypatch):
    monkeypatch.setitem(sources.DATASETS, "ramps", lambda split: Ramps())
    return ImageDataConfig(dataset="ramps", batch_size=24, mean=(0.0,), std=(1 / 255,))


def batch(config, position=0, **fields):
    config = dataclasses.replace(config, **fields)
    return image_batches(config, training=True, seed=0, shard=Shard())[position]


@pytest.mark.parametrize("mixing", ["mixup", "cutmix", "mixup_cutmix"])
def test_targets_of_mixed_images_are_their_shares(ramps, mixing):
    found = batch(ramps, mixing=mixing)
    image, label, target = (found[name] for name in ("image", "label", "target"))
    assert image.shape == (24, 30, 20, 3) and image.dtype == np.float32
    assert target.shape == (24, 3) and target.dtype == np.float32
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-6)
    # The mean brightness is that of the ramp, 9.5, and 70 per label.
    found_labels = (image.mean((1, 2, 3)) - 9.5) / 70
    shares = target @ np.arange(3)
    if mixing == "mixup":
        np.testing.assert_allclose(found_labels, shares, atol=1e-5)
    np.testing.assert_allclose(found_labels, shares, atol=0.1)
    others = target[target[np.arange(24), label] < 1]
    assert len(others) > 8 and (target.argmax(-1) != label).any()


def test_the_first_half_of_a_batch_fades_and_the_second_is_cut(ramps):
    image = batch(ramps, mixing="mixup_cutmix", mixup_alpha=5.0)["image"]
    # Ramps are alike but for their level: where there is no edge, nothing was cut.
    edges = np.abs(np.diff(image[..., 0], axis=1)).max((1, 2)) > 1e-3
    assert not edges[:12].any() and edges[12:].sum() >= 4


def test_partners_are_drawn_from_all_examples(monkeypatch):
    class Numbers(Ramps):
        class_names = tuple(map(str, range(24)))

        def __getitem__(self, index):
            return {"image": np.full((2, 2, 3), index, np.uint8), "label": index}

    monkeypatch.setitem(sources.DATASETS, "numbers", lambda split: Numbers())
    config = ImageDataConfig(dataset="numbers", batch_size=24)
    pairs = set()
    for position in range(6):
        found = batch(config, position, mixing="mixup", mixup_alpha=5.0)
        rows = np.arange(24)
        found["target"][rows, found["label"]] = 0
        pairs |= set(zip(found["label"], found["target"].argmax(-1), strict=True))
    assert len(pairs) > 100
    assert {other for _, other in pairs} == set(range(24))


def test_unmixed_batches_have_no_target(ramps):
    assert batch(ramps).keys() == {"image", "label"}


def test_partners_are_augmented_by_themselves(ramps):
    image = batch(ramps, mixing="mixup", mixup_alpha=5.0, random_flip=True)["image"]
    slopes = np.diff(image[:, 0, :, 0], axis=-1)
    np.testing.assert_allclose(slopes, np.broadcast_to(slopes[:, :1], slopes.shape), atol=1e-4)
    both, none = slopes[:, 0] < -0.999, slopes[:, 0] > 0.999
    assert both.any() and none.any() and not (both | none).all()


def test_rand_augment_sees_the_crop_before_it_is_resized(ramps, monkeypatch):
    seen = []

    def record(picture, level, rng):
        assert picture.dtype == np.uint8 and level == 0.3
        seen.append(picture.shape)
        return 255 - picture

    monkeypatch.setattr(rand_augment, "OPERATIONS", (record,))
    fields = {"image_size": (8, 8), "resampling": "bicubic", "rand_augment_magnitude": 3.0}
    plain = batch(ramps, **fields)["image"]
    inverted = batch(ramps, **fields, rand_augment_layers=1)["image"]
    np.testing.assert_allclose(inverted, 255 - plain, atol=1e-3)
    assert len(set(seen)) > 10 and (8, 8, 3) not in seen


def test_bicubic_training_images_leave_their_range_and_area_ones_do_not(monkeypatch):
    class Edges(Ramps):
        def __getitem__(self, index):
            edge = np.where(np.arange(20) < 10, 0, 255).astype(np.uint8)
            return {"image": np.broadcast_to(edge[:, None], (30, 20, 3)), "label": 0}

    monkeypatch.setitem(sources.DATASETS, "edges", lambda split: Edges())
    config = ImageDataConfig(dataset="edges", batch_size=24, mean=(0.0,), std=(1.0,))
    bicubic = batch(config, image_size=(32, 32), resampling="bicubic")["image"]
    area = batch(config, image_size=(32, 32))["image"]
    assert bicubic.min() < -0.02 and bicubic.max() > 1.02
    assert area.min() == 0.0 and area.max() == 1.0


def test_bicubic_evaluation_is_that_of_the_published_models():
    config = dataclasses.replace(CONFIG, image_size=(5, 5))
    assert config.preprocessing((9, 9, 3)).resampling == "area"
    config = dataclasses.replace(config, resampling="bicubic")
    assert config.preprocessing((9, 9, 3)).resampling == "opencv"


RECIPE = ImageDataConfig(
    dataset="synthetic",
    synthetic_shape=(40, 48, 3),
    image_size=(16, 16),
    batch_size=4,
    resampling="bicubic",
    random_flip=True,
    rand_augment_layers=4,
    mixing="mixup_cutmix",
)


def test_a_resumed_run_gets_the_same_augmented_batches():
    dataset = image_batches(RECIPE, training=True, seed=3, shard=Shard())
    with contextlib.closing(pipeline.iterate(dataset)) as iterator:
        next(iterator)
        position = iterator.get_state()
        want = [next(iterator) for _ in range(4)]
    with contextlib.closing(pipeline.iterate(dataset, num_threads=1)) as resumed:
        resumed.set_state(position)
        for one in want:
            other = next(resumed)
            for name in ("image", "label", "target"):
                np.testing.assert_array_equal(one[name], other[name])


def test_processes_draw_the_mixtures_of_one_process():
    def rows(shard):
        found = image_batches(RECIPE, training=True, seed=3, shard=shard)[1]
        return {
            image.tobytes() + t.tobytes() for image, t in zip(*map(found.get, names), strict=True)
        }

    names = ("image", "target")
    together = rows(Shard())
    assert len(together) == 4
    assert rows(Shard(0, 2)) | rows(Shard(1, 2)) == together


def test_datasets_of_any_name_are_opened_through_one_door():
    with pytest.raises(DatasetError, match="no dataset is called 'synthetics'"):
        images.open_split(dataclasses.replace(CONFIG, dataset="synthetics"), "train")
