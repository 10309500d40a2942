"""How fast the host makes images of ImageNet ready for training.

python -m benchmarks.image_pipeline
python -m benchmarks.image_pipeline --images 8192 --threads 16

- 256 JPEG files of 500×375 pixels and about 55 kB, parts of photos, are prepared as the dataset
  'imagenet2012' and read as it is: out of ArrayRecord files, by the pipeline of training.
- Printed are images per second of wall time, and CPU time per image, of all threads. The latter
  counts where other programs run; cores over CPU time is what could be reached without them.
- "crop": decoded, cropped to 10 to 100 %, mirrored, resized to 224×224, normalised. "published": as
  configs/imagenet_a.py, with RandAugment, MixUp and CutMix, which takes two images for each.
"""

import argparse
import dataclasses
import functools
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from configs import imagenet_a
from perceiver_jax.command import run_command
from perceiver_jax.data import ImageDataConfig, Shard, image_batches, pipeline
from perceiver_jax.data.flow.photos import load_photos
from perceiver_jax.data.imagenet import imagenet_synsets
from perceiver_jax.data.imagenet_preparation import imagenet_builder, write_dataset

NUM_FILES, HEIGHT, WIDTH, NUM_BYTES = 256, 375, 500, 55_000
BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Speed:
    """What one kind of preprocessing costs.

    Attributes:
        images_per_second: of wall time.
        cpu_seconds: per image, of all threads.
    """

    images_per_second: float
    cpu_seconds: float


def cases(data_dir: str) -> Mapping[str, ImageDataConfig]:
    """What is measured, by name."""
    published: Any = imagenet_a.experiment(imagenet_a.imagenet_fourier(), smoke=False).data
    published = dataclasses.replace(published, data_dir=data_dir, batch_size=BATCH_SIZE)
    crop = dataclasses.replace(published, rand_augment_layers=0, mixing="none")
    return {
        "crop, area": dataclasses.replace(crop, resampling="area"),
        "crop, bicubic": crop,
        "published": published,
    }


def measure(config: ImageDataConfig, *, num_images: int, num_threads: int) -> Speed:
    """Reads batches, after a few that are not timed."""
    dataset = image_batches(config, training=True, seed=0, shard=Shard())
    batches = pipeline.iterate(dataset, num_threads=num_threads)
    # What is read ahead was made before, and as much is on its way at the end.
    for _ in range(2 * num_threads):
        next(batches)
    wall, cpu = time.perf_counter(), time.process_time()
    num_batches = -(-num_images // config.batch_size)
    for _ in range(num_batches):
        next(batches)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    batches.close()
    return Speed(num_batches * config.batch_size / wall, cpu / num_batches / config.batch_size)


def prepare(files: Sequence[bytes], data_dir: str) -> None:
    """Writes files as the training split of a prepared ImageNet."""
    builder = imagenet_builder(data_dir)
    builder.shards = {"train": [functools.partial(_examples, files)]}
    write_dataset(builder)


def jpeg_files(photos: Sequence[np.ndarray], count: int) -> list[bytes]:
    """Parts of photos, as JPEG files of the size of those of ImageNet."""
    rng = np.random.default_rng(0)
    return [_jpeg(_part(photos[i % len(photos)], rng)) for i in range(count)]


def main(arguments: Sequence[str]) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.image_pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=4096, help="timed images of each case")
    parser.add_argument("--threads", type=int, default=8, help="reader threads")
    options = parser.parse_args(arguments)
    table = Table("images", "per second", "CPU ms each", "cores / CPU time", box=box.MARKDOWN)
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as data_dir:
        prepare(jpeg_files(load_photos("train"), NUM_FILES), data_dir)
        for name, config in cases(data_dir).items():
            speed = measure(config, num_images=options.images, num_threads=options.threads)
            table.add_row(
                name,
                f"{speed.images_per_second:,.0f}",
                f"{1e3 * speed.cpu_seconds:.2f}",
                f"{cores / speed.cpu_seconds:,.0f}",
            )
    Console().print(table)


def _examples(files: Sequence[bytes]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for i, file in enumerate(files):
        synset = imagenet_synsets()[i % len(imagenet_synsets())]
        name = f"{synset}_{i}.JPEG"
        yield name, {"image": io.BytesIO(file), "label": synset, "file_name": name}


def _part(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[HEIGHT, WIDTH, 3], of at least half of the height of a photo."""
    height, width = photo.shape[:2]
    most = min(height, width * HEIGHT // WIDTH)
    h = int(rng.integers(most // 2, most + 1))
    w = h * WIDTH // HEIGHT
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    part = np.ascontiguousarray(photo[top : top + h, left : left + w])
    return cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def _jpeg(picture: np.ndarray) -> bytes:
    """The best quality that is not larger than `NUM_BYTES`."""
    for quality in range(96, 0, -5):
        file = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        if file.size <= NUM_BYTES:
            break
    return file.tobytes()


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
