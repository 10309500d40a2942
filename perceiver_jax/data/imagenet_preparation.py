"""ImageNet as TensorFlow Datasets prepares it, made of its archives without TensorFlow.

- The same dataset: name, version, features, labels, and the order of examples, which is by a hash
  of their names, so that slices such as "train[:10000]" are the same images and of all classes.
- Differs: the PNG and the images in the colours of print, 23 in all, are not encoded anew; they are
  decoded as all others are.
- Images are read out of the archives in that order, so that nothing is written twice. The folder
  gets its name when all of it is there.
"""

import contextlib
import functools
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from perceiver_jax.data.imagenet import imagenet_synsets
from perceiver_jax.data.imagenet_archives import (
    TRAIN,
    VALIDATION,
    ArchivedImage,
    find_archive,
    read_image,
    training_images,
    validation_images,
)
from perceiver_jax.data.sources import DatasetError

PUBLISHED = {"train": 1_281_167, "validation": 50_000}
"""Images of each split."""

Examples = Iterator[tuple[str, Mapping[str, Any]]]
"""(key, features)."""


class Split(NamedTuple):
    """An archive, and its images in the order of the dataset."""

    archive: Path
    images: Sequence[ArchivedImage]

    @property
    def size(self) -> int:
        """Of all images, in bytes."""
        return sum(image.size for image in self.images)


def imagenet_builder(data_dir: str | None) -> Any:
    """TFDS's dataset `imagenet2012`, of examples that are made elsewhere.

    Before it is prepared, its attribute `shards` is to be set: of each split, what yields the
    examples of each file.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_builder import ShardBasedBuilder

    # TFDS's other builders call TensorFlow where they shuffle more than 1 GB.
    class Imagenet2012(ShardBasedBuilder, skip_registration=True):
        name = "imagenet2012"
        VERSION = tfds.core.Version("5.1.0")
        pkg_dir_path = _tfds_folder()
        shards: Mapping[str, Sequence[Callable[[], Examples]]]

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=imagenet_synsets()),
                "file_name": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                homepage="https://image-net.org/",
            )

        def _shard_iterators_per_split(self, dl_manager):
            return self.shards

    return Imagenet2012(data_dir=data_dir)


def write_dataset(builder: Any) -> None:
    """Has a builder write its dataset, as ArrayRecord files; TFDS's own messages are left out."""
    import tensorflow_datasets as tfds

    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            file_format="array_record",
        )


def prepare(archives: Path, data_dir: str | None) -> str:
    """Writes the dataset, unless it is there already.

    Args:
        archives: folder of the two archives.
        data_dir: folder of prepared datasets; None: TFDS's default.

    Returns:
        Where it lies, and how many of its images it has.

    Raises:
        DatasetError: an archive is not there or not what it should be, or the dataset cannot be
            written.
    """
    import tensorflow_datasets as tfds

    builder = imagenet_builder(data_dir)
    path = Path(builder.data_dir)
    if not path.exists():
        _write(builder, path, _find_images(archives))
    info: Any = tfds.builder_from_directory(path).info
    if info.file_format.value != "array_record":
        raise DatasetError(
            f"{path} was prepared in the format {info.file_format.value}, which gives no random "
            "access; choose another --data_dir"
        )
    counts = [
        f"{info.splits[split].num_examples if split in info.splits else 0:,} of {count:,} {split}"
        for split, count in PUBLISHED.items()
    ]
    return f"{path}: {', '.join(counts)} images"


def _tfds_folder() -> Any:
    """Where TFDS has its description of the dataset, and the labels of the validation images."""
    import tensorflow_datasets as tfds

    return tfds.core.tfds_path("datasets/imagenet2012")


def _find_images(archives: Path) -> dict[str, Split]:
    from tensorflow_datasets.core.hashing import Hasher

    train, validation = (find_archive(archives, name) for name in (TRAIN, VALIDATION))
    synsets = (_tfds_folder() / "validation_labels.txt").read_text().split()
    found = {
        # The small one first: what is wrong with it is known sooner.
        "validation": (validation, validation_images(validation, synsets)),
        "train": (train, training_images(train)),
    }
    splits = {}
    for name, (archive, images) in found.items():
        hasher = Hasher(name)
        images.sort(key=lambda image, hasher=hasher: hasher.hash_key(image.name))
        splits[name] = Split(archive, images)
    return splits


def _write(builder: Any, path: Path, splits: Mapping[str, Split]) -> None:
    size = sum(split.size for split in splits.values())
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    builder.shards = {name: _shards(name, split, progress) for name, split in splits.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob("incomplete.*"):
            print(f"{left} is of a preparation that was killed; delete it", file=sys.stderr)
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise DatasetError(
                f"{path.parent} has {free / 1e9:.1f} GB of space left and the images take "
                f"{size / 1e9:.1f} GB; make room, or choose another --data_dir"
            )
        with progress:
            write_dataset(builder)
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"{path} cannot be written: {error}; make room, or choose another --data_dir"
        ) from error


def _shards(name: str, split: Split, progress: Progress) -> list[Callable[[], Examples]]:
    from tensorflow_datasets.core.utils.shard_utils import ShardConfig, get_shard_boundaries

    count = len(split.images)
    ends = get_shard_boundaries(count, ShardConfig.calculate_number_shards(split.size, count))
    task = progress.add_task(name, total=count)
    return [
        functools.partial(
            _examples, split.archive, split.images[start:end], lambda: progress.advance(task)
        )
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _examples(
    archive: Path, images: Sequence[ArchivedImage], advance: Callable[[], None]
) -> Examples:
    with open(archive, "rb") as file:
        for image in images:
            yield (
                image.name,
                {
                    # A file that is encoded already is stored as it is.
                    "image": io.BytesIO(read_image(file, image)),
                    "label": image.synset,
                    "file_name": image.name,
                },
            )
            advance()
