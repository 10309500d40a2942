"""ImageNet out of archives as they are published: what TFDS would make of them, or nothing."""

import errno
import io
import json
import shutil
import sys
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from perceiver_jax.data import (
    DatasetError,
    ImageDataConfig,
    Shard,
    image_batches,
    imagenet,
    imagenet_archives,
    imagenet_preparation,
    pipeline,
    sources,
)
from perceiver_jax.data.imagenet import imagenet_classes, imagenet_synsets

tfds = pytest.importorskip("tensorflow_datasets")

FIRST = ("n01440764", "n01443537", "n01484850")
COLOURS = np.array([[200, 40, 30], [20, 60, 220]], np.uint8)


def picture(number):
    return np.full((8, 12, 3), (number % 256, number // 256, 7), np.uint8)


def jpeg(image):
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def encoded_by_pillow(mode, file_format):
    """Halves of two colours; contents of a file."""
    halves = Image.fromarray(np.repeat(COLOURS, 16, axis=0)[None].repeat(16, axis=0))
    file = io.BytesIO()
    halves.convert(mode).save(file, file_format, quality=100)
    return file.getvalue()


def tar(files):
    """`{name: contents}` → contents of an archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return packed.getvalue()


def val_name(number):
    return f"ILSVRC2012_val_{number:08}.JPEG"


def write_archives(folder, train, validation=None):
    """Writes the two archives, of `{synset: {name: contents}}` and `{name: contents}`."""
    folder.mkdir(exist_ok=True)
    parts = {f"{synset}.tar": tar(files) for synset, files in train.items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(parts))
    validation = {val_name(1): jpeg(picture(1))} if validation is None else validation
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(validation))
    return folder


@pytest.fixture
def three_classes(monkeypatch):
    """ImageNet as if it had three classes, which toys of archives are sooner made of."""
    monkeypatch.setattr(imagenet_archives, "imagenet_synsets", lambda: FIRST)
    # Labels of the validation images are of all classes.
    return {synset: {f"{synset}_7.JPEG": jpeg(picture(7))} for synset in FIRST}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of datasets, made by the command of archives with all classes."""
    folder = tmp_path_factory.mktemp("imagenet")
    train = {
        synset: {f"{synset}_{i}.JPEG": jpeg(picture(i))}
        for i, synset in enumerate(imagenet_synsets())
    }
    # As two that are published: a PNG, and a JPEG in the colours of print.
    train[FIRST[0]]["n01440764_1.JPEG"] = encoded_by_pillow("RGB", "PNG")
    train[FIRST[1]]["n01443537_2.JPEG"] = encoded_by_pillow("CMYK", "JPEG")
    validation = {val_name(i): jpeg(picture(i % 1000)) for i in (50_000, 3, 1)}
    write_archives(folder / "archives", train, validation)
    data_dir = folder / "prepared"
    arguments = [f"--archives={folder / 'archives'}", f"--data_dir={data_dir}"]
    assert imagenet.main(arguments) == 0
    return folder


@pytest.fixture
def data_dir(prepared):
    return str(prepared / "prepared")


def records(data_dir, split):
    builder = tfds.builder("imagenet2012", data_dir=data_dir, file_format="array_record")
    return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})


def test_images_and_labels_are_those_of_the_archives(data_dir):
    source = sources.load("tfds:imagenet2012", "train", data_dir)
    names = [record["file_name"].decode() for record in records(data_dir, "train")]
    assert len(source) == len(names) == 1002
    assert source.class_names == imagenet_classes()
    for i, name in enumerate(names):
        example = source[i]
        assert example["label"] == imagenet_synsets().index(name.partition("_")[0])
        if example["image"].shape == (8, 12, 3):
            off = np.abs(example["image"].astype(int) - picture(example["label"]))
            assert off.max() <= 2
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["n01440764_1.JPEG", "n01443537_2.JPEG"])
def test_png_and_the_colours_of_print_are_decoded_as_others(name, data_dir):
    names = [record["file_name"].decode() for record in records(data_dir, "train")]
    image = sources.load("tfds:imagenet2012", "train", data_dir)[names.index(name)]["image"]
    assert image.shape == (16, 32, 3)
    for part, colour in zip((image[:, :12], image[:, -12:]), COLOURS, strict=True):
        assert np.abs(part.astype(int) - colour).max() <= 3


def test_classes_of_validation_images_go_by_their_numbers(data_dir):
    # The first, third and last line of the list inside TFDS.
    synsets = {1: "n01751748", 3: "n02105855", 50_000: "n02437616"}
    found = {
        record["file_name"].decode(): imagenet_synsets()[record["label"]]
        for record in records(data_dir, "validation")
    }
    listed = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()
    assert found == {val_name(number): listed[number - 1] for number in synsets}
    assert found[val_name(1)] == synsets[1]


def test_the_dataset_is_the_one_that_tfds_knows(data_dir, tmp_path):
    stock = tfds.builder("imagenet2012", data_dir=tmp_path, file_format="array_record").info
    # As the files say, and not TFDS's own code for a dataset of this name.
    ours = tfds.builder_from_directory(f"{data_dir}/imagenet2012/5.1.0").info
    assert ours.full_name == stock.full_name
    assert ours.features.to_json() == stock.features.to_json()
    assert ours.features["label"].names == stock.features["label"].names
    assert (ours.supervised_keys, ours.description) == (stock.supervised_keys, stock.description)


class Names(tfds.core.GeneratorBasedBuilder):
    """The names of the training images, in the order in which TFDS writes them."""

    VERSION = tfds.core.Version("1.0.0")
    given = ()

    def _info(self):
        features = tfds.features.FeaturesDict({"file_name": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": ((name, {"file_name": name}) for name in self.given)}

    def _generate_examples(self):
        raise NotImplementedError


def test_examples_are_in_the_order_of_tfds(data_dir, tmp_path):
    ours = [record["file_name"] for record in records(data_dir, "train")]
    builder = Names(data_dir=tmp_path, file_format="array_record")
    builder.given = sorted(name.decode() for name in ours)
    tfds.display_progress_bar(False)
    builder.download_and_prepare()
    assert [record["file_name"] for record in builder.as_data_source("train")] == ours


def test_many_images_are_divided_over_files(three_classes, tmp_path, monkeypatch, capsys):
    config = "tensorflow_datasets.core.utils.shard_utils.ShardConfig"
    monkeypatch.setattr(f"{config}.calculate_number_shards", lambda size, count: 2)
    archives = write_archives(tmp_path / "archives", three_classes, three_classes_validation())
    imagenet_preparation.prepare(archives, str(tmp_path))
    names = [record["file_name"] for record in records(str(tmp_path), "train")]
    assert len(set(names)) == len(names) == 3
    files = (tmp_path / "imagenet2012" / "5.1.0").glob("*train*")
    assert sorted(x.name[-14:] for x in files) == ["00000-of-00002", "00001-of-00002"]
    assert capsys.readouterr().out == ""


def three_classes_validation():
    return {val_name(number): jpeg(picture(number)) for number in (1, 2)}


def test_batches_come_of_the_prepared_dataset(data_dir):
    config = ImageDataConfig(
        dataset="tfds:imagenet2012",
        data_dir=data_dir,
        eval_split="validation",
        batch_size=8,
        eval_batch_size=2,
        image_size=(8, 8),
    )
    batches = pipeline.iterate(image_batches(config, training=True, seed=0, shard=Shard()))
    batch = next(batches)
    batches.close()
    assert batch["image"].shape == (8, 8, 8, 3)
    evaluation = image_batches(config, training=False, seed=0, shard=Shard())
    masks = np.concatenate([evaluation[i]["mask"] for i in range(len(evaluation))])
    assert masks.tolist() == [True, True, True, False]


def test_the_command_says_how_much_of_imagenet_it_found(prepared, capsys, monkeypatch):
    def fail(*arguments):
        raise AssertionError("it was prepared already")

    monkeypatch.setattr(imagenet_preparation, "read_image", fail)
    assert imagenet.main(["--archives=nowhere", f"--data_dir={prepared / 'prepared'}"]) == 0
    folder = prepared / "prepared" / "imagenet2012" / "5.1.0"
    counts = "1,002 of 1,281,167 train, 3 of 50,000 validation images"
    assert capsys.readouterr().out == f"{folder}: {counts}\n"


def test_a_missing_archive_is_named_with_those_there_are(tmp_path, capsys):
    (tmp_path / "train.tar").write_bytes(b"x")
    assert imagenet.main([f"--archives={tmp_path}", f"--data_dir={tmp_path}"]) == 1
    message = capsys.readouterr().err
    assert f"error: there is no archive {tmp_path}/ILSVRC2012_img_train.tar" in message
    assert "(archives in that folder: train.tar)" in message


def test_missing_classes_are_named(tmp_path):
    archives = write_archives(tmp_path / "archives", {FIRST[0]: {"a.JPEG": jpeg(picture(0))}})
    with pytest.raises(DatasetError, match="1 of 1,000 classes; missing are n01443537.tar, n01484"):
        imagenet_preparation.prepare(archives, str(tmp_path))


def test_an_archive_of_another_kind_is_refused(three_classes, tmp_path):
    archives = write_archives(tmp_path / "archives", three_classes)
    train, val = (archives / f"ILSVRC2012_img_{x}.tar" for x in ("train", "val"))
    (archives / "other.tar").write_bytes(train.read_bytes())
    shutil.copy(val, train)
    with pytest.raises(DatasetError, match=r"a file ILSVRC2012_val_00000001.JPEG, .* of no class"):
        imagenet_preparation.prepare(archives, str(tmp_path))
    shutil.copy(archives / "other.tar", val)
    with pytest.raises(DatasetError, match="a file n01440764.tar; expected ILSVRC2012_val_00"):
        imagenet_preparation.prepare(archives, str(tmp_path))


@pytest.mark.parametrize("number", [0, 50_001])
def test_numbers_beyond_those_of_validation_images_are_refused(number, three_classes, tmp_path):
    archives = write_archives(
        tmp_path / "archives", three_classes, {val_name(number): jpeg(picture(0))}
    )
    with pytest.raises(DatasetError, match=f"a file {val_name(number)}; expected"):
        imagenet_preparation.prepare(archives, str(tmp_path))


@pytest.mark.parametrize("contents", [b"", b"GIF89a" + bytes(50), bytes(50)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_file_that_is_no_image_is_named(split, contents, three_classes, tmp_path):
    if split == "train":
        three_classes[FIRST[1]]["n01443537_8.JPEG"] = contents
        archives = write_archives(tmp_path / "archives", three_classes)
        name = r"n01443537_8.JPEG \(n01443537\)"
    else:
        archives = write_archives(tmp_path / "archives", three_classes, {val_name(1): contents})
        name = r"ILSVRC2012_val_00000001.JPEG \(n01751748\)"
    with pytest.raises(DatasetError, match=f"{name} in .*_{split}.tar is neither a JPEG nor a PNG"):
        imagenet_preparation.prepare(archives, str(tmp_path))


@pytest.mark.parametrize("archive", ["train", "val"])
def test_archives_without_images_are_refused(archive, three_classes, tmp_path):
    if archive == "train":
        three_classes[FIRST[2]] = {}
    validation = {} if archive == "val" else None
    archives = write_archives(tmp_path / "archives", three_classes, validation)
    with pytest.raises(DatasetError, match=f"_{archive}.tar has no images"):
        imagenet_preparation.prepare(archives, str(tmp_path))


@pytest.mark.parametrize("kept", [0, 100, 1200, 0.5, 0.99])
@pytest.mark.parametrize("archive", ["train", "val"])
def test_a_torn_archive_is_refused(archive, kept, three_classes, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    three_classes[FIRST[2]] = {"n01484850_1.JPEG": jpeg(noise)}
    validation = {val_name(i): jpeg(noise) for i in (1, 2, 3)}
    archives = write_archives(tmp_path / "archives", three_classes, validation)
    path = archives / f"ILSVRC2012_img_{archive}.tar"
    # Without the zeros at the end, which are of no use.
    contents = path.read_bytes().rstrip(b"\0")
    path.write_bytes(contents[: kept if kept > 1 else int(kept * len(contents))])
    with pytest.raises(DatasetError, match=rf"{path.name} is damaged or was not downloaded to its"):
        imagenet_preparation.prepare(archives, str(tmp_path))
    assert not (tmp_path / "imagenet2012").exists()


def test_a_damaged_header_is_not_taken_for_the_end(three_classes, tmp_path):
    three_classes[FIRST[1]] |= {f"n01443537_{i}.JPEG": jpeg(picture(i)) for i in (8, 9)}
    archives = write_archives(tmp_path / "archives", three_classes)
    path = archives / "ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes().replace(b"n01443537_9.JPEG", b"n01443537_x.JPEG"))
    with pytest.raises(DatasetError, match="n01443537.tar in .*: a header is damaged"):
        imagenet_preparation.prepare(archives, str(tmp_path))


def test_a_preparation_that_fails_leaves_nothing_and_can_be_repeated(
    three_classes, tmp_path, monkeypatch
):
    archives = write_archives(tmp_path / "archives", three_classes)

    def fail(file, image):
        if image.name == "n01484850_7.JPEG":
            raise OSError(errno.ENOSPC, "No space left on device")
        return imagenet_archives.read_image(file, image)

    with monkeypatch.context() as broken:
        broken.setattr(imagenet_preparation, "read_image", fail)
        with pytest.raises(DatasetError, match="No space left on device; make room, or choose"):
            imagenet_preparation.prepare(archives, str(tmp_path))
    assert not list((tmp_path / "imagenet2012").iterdir())
    with pytest.raises(DatasetError, match="perceiver_jax.data.imagenet --archives=DIR, or point"):
        sources.load("tfds:imagenet2012", "train", str(tmp_path))
    imagenet_preparation.prepare(archives, str(tmp_path))
    assert len(sources.load("tfds:imagenet2012", "train", str(tmp_path))) == 3


def test_what_a_killed_preparation_left_is_named_and_not_read(three_classes, tmp_path, capsys):
    archives = write_archives(tmp_path / "archives", three_classes)
    imagenet_preparation.prepare(archives, str(tmp_path))
    whole = tmp_path / "imagenet2012" / "5.1.0"
    left = whole.rename(whole.with_name("incomplete.ABCDEF_5.1.0"))
    with pytest.raises(DatasetError, match="cannot be read"):
        sources.load("tfds:imagenet2012", "train", str(tmp_path))
    imagenet_preparation.prepare(archives, str(tmp_path))
    assert f"{left} is of a preparation that was killed; delete it" in capsys.readouterr().err
    assert whole.exists() and left.exists()


def test_too_little_space_is_found_before_the_work(three_classes, tmp_path, monkeypatch):
    archives = write_archives(tmp_path / "archives", three_classes)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(imagenet_preparation.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match=r"has 0.0 GB of space left and the images take 0.0 GB"):
        imagenet_preparation.prepare(archives, str(tmp_path))
    assert not list((tmp_path / "imagenet2012").iterdir())


def test_a_dataset_in_another_format_is_refused(three_classes, tmp_path):
    archives = write_archives(tmp_path / "archives", three_classes)
    imagenet_preparation.prepare(archives, str(tmp_path))
    about = tmp_path / "imagenet2012" / "5.1.0" / "dataset_info.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(DatasetError, match="was prepared in the format tfrecord"):
        imagenet_preparation.prepare(archives, str(tmp_path))
