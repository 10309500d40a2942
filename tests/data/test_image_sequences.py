"""Images as sequences: their order, their positions, and back."""

import io
import sys

import cv2
import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard, image_sequences
from perceiver_jax.data.image_sequences import (
    ImageSequenceDataConfig,
    image_sequence_batches,
    open_images,
    positions,
    to_image,
)
from perceiver_jax.data.marked_bytes import PAD_ID, SOS_ID

ALONE = Shard()
SHAPE = (4, 3, 3)


def make(**fields):
    small = {"dataset": "synthetic", "image_shape": SHAPE, "batch_size": 4, "eval_batch_size": 3}
    return ImageSequenceDataConfig(**(small | fields))


def batches(config, *, training=True, seed=0):
    return image_sequence_batches(config, training=training, seed=seed, shard=ALONE)


@pytest.mark.parametrize("ordering", ["pixels", "channels"])
def test_targets_are_the_values_of_an_image(ordering):
    config = make(ordering=ordering)
    batch = batches(config, training=False)[0]
    images = open_images(config, config.eval_split)
    assert batch["ids"].shape == batch["targets"].shape == (3, 36)
    for i, values in enumerate(batch["targets"]):
        np.testing.assert_array_equal(to_image(values, SHAPE, ordering), images[i]["image"])
    assert (batch["ids"][:, 0] == SOS_ID).all()
    np.testing.assert_array_equal(batch["ids"][:, 1:], batch["targets"][:, :-1])
    assert batch["predicted"].all() and batch["input_mask"].all()
    assert batch["mask"].all()


def test_orders_are_by_pixel_and_by_channel():
    image = np.arange(36, dtype=np.uint8).reshape(SHAPE)
    assert to_image(np.arange(3, 39), SHAPE, "pixels").tolist() == image.tolist()
    by_channel = np.concatenate([image[..., c].ravel() for c in range(3)])
    assert to_image(by_channel.astype(int) + 3, SHAPE, "channels").tolist() == image.tolist()
    assert to_image(np.array([PAD_ID, SOS_ID]), (1, 2, 1), "pixels").tolist() == [[[0], [0]]]


def test_positions_count_from_one_and_leave_that_to_sos():
    by_pixel = positions((2, 2, 3), "pixels")
    assert by_pixel.tolist()[:5] == [[1, 1, 1], [2, 2, 2], [2, 2, 3], [2, 2, 4], [3, 2, 2]]
    assert by_pixel.tolist()[-1] == [3, 3, 3], "that of the last value is of no input"
    by_channel = positions((2, 2, 3), "channels")
    assert by_channel.tolist()[:4] == [[1, 1, 1], [2, 2, 2], [3, 2, 2], [2, 3, 2]]
    assert len(by_pixel) == len(by_channel) == 12


@pytest.mark.parametrize("ordering", ["pixels", "channels"])
def test_a_position_says_where_its_value_stands(ordering):
    config = make(ordering=ordering)
    batch = batches(config)[0]
    assert (batch["positions"] < config.position_sizes).all() and config.position_sizes == (5, 6, 5)
    for ids, places, values in zip(
        *(batch[x] for x in ("ids", "positions", "targets")), strict=True
    ):
        image = to_image(values, SHAPE, ordering)
        x, y, channel = places[1:].T - 2
        np.testing.assert_array_equal(image[y, x, channel], ids[1:] - 3)


def test_beginnings_of_images_stand_at_the_end():
    config = make(random_min_seq_len=30)
    lengths = set()
    for i in range(20):
        batch, whole = batches(config)[i], batches(make())[i]
        for row, mask in enumerate(batch["input_mask"]):
            length = int(mask.sum())
            lengths.add(length)
            assert mask[36 - length :].all()
            for name in ("ids", "targets", "positions"):
                np.testing.assert_array_equal(batch[name][row, mask], whole[name][row, :length])
                assert not batch[name][row, ~mask].any()
    assert lengths == set(range(30, 37))


def test_seed_and_position_decide_everything():
    config = make(random_min_seq_len=5)
    for i in (0, 7):
        np.testing.assert_array_equal(batches(config)[i]["ids"], batches(config)[i]["ids"])
    assert not np.array_equal(batches(config)[0]["ids"], batches(config, seed=1)[0]["ids"])


def test_digits_are_sequences_of_one_channel():
    pytest.importorskip("sklearn")
    config = make(dataset="digits", eval_split="test", image_shape=(8, 8, 1))
    batch = batches(config)[0]
    assert batch["ids"].shape == (4, 64) and batch["positions"].shape == (4, 64, 3)
    assert batch["targets"].max() == 258
    assert config.position_sizes == (10, 10, 3)


class Gradient:
    """One wide image whose values are its columns."""

    class_names = ()

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"image": np.tile(np.arange(0, 160, 10, dtype=np.uint8), (8, 1))[..., None]}


@pytest.mark.parametrize(
    ("shape", "columns"), [((8, 8, 1), slice(4, 12)), ((8, 16, 1), slice(0, 16))]
)
def test_of_images_of_another_size_the_central_part_is_taken(monkeypatch, shape, columns):
    monkeypatch.setattr(image_sequences, "open_images", lambda *_: Gradient())
    values = batches(make(image_shape=shape))[0]["targets"][0]
    row = to_image(values, shape, "pixels")[0, :, 0]
    assert row.tolist() == list(range(0, 160, 10))[columns]
    colours = batches(make(image_shape=(4, 4, 3)))[0]["targets"][0]
    image = to_image(colours, (4, 4, 3), "pixels")
    assert image[0, :, 0].tolist() == [45, 65, 85, 105]
    assert (image == image[:1, :, :1]).all()


def test_images_without_labels_are_read_from_tfds(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Unlabelled(tfds.core.GeneratorBasedBuilder):
        """Images alone."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=SHAPE)})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0), "validation": self._generate_examples(50)}

        def _generate_examples(self, start):
            for i in range(4):
                png = cv2.imencode(".png", np.full(SHAPE, start + i, np.uint8))[1].tobytes()
                yield i, {"image": io.BytesIO(png)}

    tfds.display_progress_bar(False)
    Unlabelled(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    config = make(dataset="tfds:unlabelled", data_dir=str(tmp_path))
    dataset = batches(config, training=False)
    assert dataset[1]["mask"].tolist() == [True, False, False]
    images = [*dataset[0]["targets"], dataset[1]["targets"][0]]
    assert sorted(set(values).pop() for values in images) == [53, 54, 55, 56]
    assert all(len(set(values)) == 1 for values in images)
    assert "tensorflow" not in sys.modules
    with pytest.raises(DatasetError, match="cannot be read"):
        open_images(make(dataset="tfds:unlabelled", data_dir=str(tmp_path)), "test")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"image_shape": (0, 4, 3)}, r"image_shape=\(0, 4, 3\) is none"),
        ({"image_shape": (4, 4, 2)}, "and 3 or 1"),
        ({"random_min_seq_len": 37}, "random_min_seq_len=37 is not from 1 to 36"),
        ({"random_min_seq_len": 0}, "random_min_seq_len=0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_a_dataset_that_there_is_not_is_an_error():
    with pytest.raises(DatasetError, match="no dataset is called 'cats'"):
        batches(make(dataset="cats"))


@pytest.mark.parametrize("size", [10, 36])
def test_every_value_is_predicted_in_one_block_after_all_before_it(size):
    config, whole = make(eval_block_size=size), make()
    blocks, images = batches(config, training=False), batches(whole, training=False)
    rows = {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
    row = {name: images[0][name][1] for name in images[0]}
    num_blocks = -(-36 // size)
    for i in range(num_blocks):
        first, end = size * i, min(size * (i + 1), 36)
        block = {name: rows[name][num_blocks + i] for name in rows}
        assert block["predicted"].nonzero()[0].tolist() == list(range(36 - (end - first), 36))
        assert block["input_mask"].sum() == end
        for name in ("ids", "targets", "positions"):
            np.testing.assert_array_equal(block[name][36 - end :], row[name][:end])
            assert not block[name][: 36 - end].any()


def test_blocks_are_no_longer_than_images():
    with pytest.raises(ValueError, match="eval_block_size=37 is not from 1 to 36"):
        make(eval_block_size=37)
