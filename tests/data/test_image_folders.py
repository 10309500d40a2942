"""Folders of images, from files to a trained step."""

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image

from configs import imagenet_a
from perceiver_jax.config import from_dict
from perceiver_jax.data import DatasetError, ImageDataConfig, Shard, image_batches, sources
from perceiver_jax.data.images import open_split
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import read_rows


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    suffixes = {"red": (".png", ".JPEG"), "n01440764": (".jpg", ".webp"), "blue": (".bmp", ".tif")}
    for split, count in (("train", 4), ("val", 2)):
        for name, both in suffixes.items():
            for i in range(count):
                image = rng.integers(0, 256, (30 + i, 40, 3), np.uint8)
                write(tmp_path / split / name / f"{i}{both[i % 2]}", image)
    return tmp_path


def test_images_are_those_of_the_files(root):
    source = sources.load("folder", "train", str(root))
    assert len(source) == 12
    # By the sorted names of the folders; a synset is shown in words.
    assert source.class_names == ("blue", "tench, Tinca tinca", "red")
    assert [source[i]["label"] for i in range(12)] == [0] * 4 + [1] * 4 + [2] * 4
    for i, file in ((0, "blue/0.bmp"), (1, "blue/1.tif"), (10, "red/2.png")):
        expected = cv2.imread(str(root / "train" / file))[..., ::-1]
        np.testing.assert_array_equal(source[i]["image"], expected)
    assert source[11]["image"].shape == (33, 40, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_all_images_have_three_channels(mode, tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(tmp_path / "train/a/x.png")
    image = sources.load("folder", "train", str(tmp_path))[0]["image"]
    np.testing.assert_array_equal(image, np.full((4, 6, 3), 255, np.uint8))


def test_photos_are_turned_as_their_cameras_say(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    photo = Image.new("RGB", (6, 4))
    exif = photo.getexif()
    exif[0x112] = 6
    photo.save(tmp_path / "train" / "a" / "x.jpg", exif=exif)
    assert sources.load("folder", "train", str(tmp_path))[0]["image"].shape == (6, 4, 3)


def test_a_damaged_file_is_named_when_it_is_read(root):
    file = root / "train" / "blue" / "0.bmp"
    whole = (root / "train" / "red" / "0.png").read_bytes()
    for contents in (b"", b"no image", whole[:500]):
        file.write_bytes(contents)
        with pytest.raises(DatasetError, match=r"blue/0\.bmp is not a readable image"):
            sources.load("folder", "train", str(root))[0]


def test_a_file_that_is_gone_is_named_when_it_is_read(root):
    source = sources.load("folder", "train", str(root))
    (root / "train" / "blue" / "0.bmp").unlink()
    with pytest.raises(DatasetError, match=r"blue/0\.bmp cannot be read: No such file"):
        source[0]


def test_images_of_several_sizes_are_refused_unless_they_are_resized(root):
    config = ImageDataConfig(dataset="folder", data_dir=str(root), eval_split="val")
    with pytest.raises(DatasetError) as error:
        open_split(config, "train")
    assert str(error.value) == (
        f"{root}/train/blue/1.tif has 31 × 40 pixels (height × width), and "
        f"{root}/train/blue/0.bmp has 30 × 40; set --config.data.image_size=H,W to crop and "
        "resize all images to one size"
    )
    assert len(open_split(dataclasses.replace(config, image_size=(8, 8)), "train")) == 12


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_photos_as_they_are_turned(orientation, tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    photo = Image.new("RGB", (6, 4))
    photo.save(tmp_path / "train" / "a" / "0.png")
    exif = photo.getexif()
    exif[0x112] = orientation
    photo.save(tmp_path / "train" / "a" / "1.jpg", exif=exif)
    (tmp_path / "train" / "a" / "2.jpg").write_bytes(b"damaged, of which reading it tells")
    source = sources.load("folder", "train", str(tmp_path))
    if source[1]["image"].shape == source[0]["image"].shape:
        source.check_sizes()
    else:
        with pytest.raises(DatasetError, match=r"1\.jpg has 6 × 4 .*/0\.png has 4 × 6;"):
            source.check_sizes()


def test_the_folder_has_to_be_named():
    with pytest.raises(DatasetError, match="name it: --config.data.data_dir"):
        sources.load("folder", "train", None)


def test_batches_come_of_a_folder(root):
    config = ImageDataConfig(
        dataset="folder",
        data_dir=str(root),
        eval_split="val",
        batch_size=6,
        eval_batch_size=4,
        image_size=(16, 24),
    )
    batch = image_batches(config, training=True, seed=0, shard=Shard())[0]
    assert batch["image"].shape == (6, 16, 24, 3)
    evaluation = image_batches(config, training=False, seed=0, shard=Shard())
    assert len(evaluation) == 2
    assert evaluation[1]["label"].tolist() == [2, 2, 0, 0]
    assert evaluation[1]["mask"].tolist() == [True, True, False, False]


def test_the_recipe_of_imagenet_trains_on_a_folder(root, tmp_path):
    config = from_dict(ExperimentConfig, imagenet_a.get_config("smoke"))
    data = dataclasses.replace(config.data, dataset="folder", data_dir=str(root), eval_split="val")
    decoder = dataclasses.replace(config.model.decoder, num_classes=3)
    model = dataclasses.replace(config.model, decoder=decoder)
    config = dataclasses.replace(config, model=model, data=data, num_steps=2)
    train(config, tmp_path / "run")
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 2 and all(np.isfinite(losses))
