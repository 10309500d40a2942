"""Pictures to class names with probabilities."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.card import ImagePreprocessing
from perceiver_jax.data.imagenet import imagenet_classes
from perceiver_jax.data.preprocessing import preprocess
from perceiver_jax.errors import UserError
from perceiver_jax.models import ImageEncoderConfig
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.pipelines.image_attention import (
    ImageAttention,
    check_latents,
    over_image,
    token_grid,
)
from perceiver_jax.pipelines.model_kinds import kind_of
from perceiver_jax.pretrained import Source, as_release

BATCH_SIZE = 8
"""Most images that the model sees at once."""
WHITE_16 = 2**16 - 1
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


class Guess(NamedTuple):
    """A class and how probable the model finds it."""

    label: str
    probability: float


class ImageClassification:
    """An image classifier with what it needs before and after.

    Args:
        source: a workdir, `FORMAT:PATH-OR-HUB-ID`, or the model; its card tells preprocessing and
            class names. A model of 1,000 classes without names gets ImageNet's, one without
            preprocessing that of its kind: ImageNet's for colours, pixels in [-1, 1] for grey.

    Raises:
        UserError: it is no image classifier.
    """

    def __init__(self, source: Source):
        release = as_release(source)
        encoder = half_of(release.config, "encoder")
        if not isinstance(encoder, ImageEncoderConfig):
            raise UserError(
                f"{kind_of(release.config)} does not classify images; take a classifier of images "
                "(ImageEncoderConfig)"
            )
        self.model = release.model()
        self.num_latents = release.config.num_latents
        image_shape = encoder.image_shape
        self.preprocessing = release.card.preprocessing or usual_preprocessing(image_shape)
        self.labels = release.card.labels or usual_labels(release.config.decoder.num_classes)
        if self.preprocessing.image_shape != image_shape:
            raise UserError(
                f"the preprocessing makes images of {list(self.preprocessing.image_shape)}, the "
                f"model takes {list(image_shape)}; correct the model's card"
            )

    def __call__(
        self, pictures: Iterable[Path | str | np.ndarray], top: int = 5
    ) -> Iterator[list[Guess]]:
        """Yields the most probable classes of each picture, the best first.

        Pictures are read `BATCH_SIZE` at a time: memory does not grow with their number.

        Args:
            pictures: image files, or arrays [h, w, 3 or 1] uint8.
            top: how many classes.

        Raises:
            UserError: a file that is no image, when its batch is reached.
        """
        waiting, size = iter(pictures), 0
        while part := [self._input(p) for p in itertools.islice(waiting, BATCH_SIZE)]:
            # Always the same batch size, so that the model is compiled once.
            size = max(size, len(part))
            batch = np.stack(part + part[:1] * (size - len(part)))
            for probabilities in _probabilities(self.model, batch)[: len(part)]:
                yield self._best(probabilities, top)

    def attention(self, picture: Path | str | np.ndarray) -> ImageAttention:
        """Where the model looks in a picture; `attention(picture).figure()` draws it.

        Raises:
            UserError: a file that is no image, or a model that takes images as one token.
        """
        return over_image(self.model, self._input(picture), self.preprocessing)

    def check_attention(self, latents: Sequence[int] | None = None) -> None:
        """Raises what `attention` and its figure would of any picture, before there is one.

        Args:
            latents: those that the figure is to show.

        Raises:
            UserError: the model takes images as one token, or has no such latent.
        """
        token_grid(self.model, self.preprocessing.image_shape)
        check_latents(latents or (), self.num_latents)

    def _input(self, picture: Path | str | np.ndarray) -> np.ndarray:
        pixels = picture if isinstance(picture, np.ndarray) else read_picture(picture)
        return preprocess(pixels, self.preprocessing)

    def _best(self, probabilities: np.ndarray, top: int) -> list[Guess]:
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [Guess(self.labels[i], float(probabilities[i])) for i in order]


@jax.jit
def _predict(model, images):
    return jax.nn.softmax(model(images).astype(jnp.float32))


def _probabilities(model, images: np.ndarray) -> np.ndarray:
    return np.asarray(_predict(model, images))


def read_picture(path: Path | str) -> np.ndarray:
    """An image file as [h, w, 3] uint8, turned as its camera says, transparency on white.

    Grey of 16 bits is scaled to 8.

    Raises:
        UserError: there is no such file, it is no image, or its pixels are of no known range.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                grey = _deep_grey(np.asarray(upright), upright.info.get("transparency"))
                return np.repeat(grey[:, :, None], 3, axis=-1)
            if upright.mode == "F":
                raise ValueError(
                    "its pixels are floating-point numbers of unknown range; save it with 8 or 16 "
                    "bits per pixel and channel"
                )
            if upright.has_transparency_data:
                rgba = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return np.asarray(upright.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"there is no image file {path}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def _deep_grey(pixels: np.ndarray, transparent: int | None) -> np.ndarray:
    """[h, w] of 16 bits → 8 bits; Pillow's own conversion clips."""
    least, most = pixels.min(), pixels.max()
    if least < 0 or most > WHITE_16:
        raise ValueError(
            f"its pixels are from {least} to {most}, expected 0 to {WHITE_16}; save it with 8 or "
            "16 bits per pixel"
        )
    if transparent is not None:
        pixels = np.where(pixels == transparent, WHITE_16, pixels)
    return np.round(pixels / (WHITE_16 / 255)).astype(np.uint8)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and those image files that lie in the folders, by name.

    Raises:
        UserError: a folder without any.
    """
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not inside:
            raise UserError(f"the folder {path} has no images ({', '.join(SUFFIXES)}) in it")
        found += inside
    return found


def usual_preprocessing(image_shape: tuple[int, int, int]) -> ImagePreprocessing:
    """ImageNet's for colours; for grey the whole picture, pixels in [-1, 1]."""
    if image_shape[-1] == 3:
        return ImagePreprocessing(image_shape=image_shape)
    return ImagePreprocessing(image_shape=image_shape, crop=None, mean=(0.5,), std=(0.5,))


def usual_labels(num_classes: int) -> tuple[str, ...]:
    """ImageNet's names for 1,000 classes, otherwise numbers."""
    if num_classes == len(imagenet_classes()):
        return imagenet_classes()
    return tuple(f"class {i}" for i in range(num_classes))
