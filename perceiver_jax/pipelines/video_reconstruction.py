"""Clips with sound through a video autoencoder, and what it takes them for."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from perceiver_jax.card import VideoPreprocessing
from perceiver_jax.data.video import read_clip
from perceiver_jax.errors import UserError
from perceiver_jax.models import VideoEncoderConfig
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.pipelines.model_kinds import kind_of
from perceiver_jax.pretrained import Source, as_release


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """A clip as the model saw it, and as it came out.

    Attributes:
        seen: [T, H, W, 3] uint8.
        frames: [T, H, W, 3] uint8.
        sound: [S, 1] float32 in [-1, 1].
        has_sound: whether the clip had sound that the model saw.
        guesses: classes with their probabilities, the best first.
    """

    seen: np.ndarray
    frames: np.ndarray
    sound: np.ndarray
    has_sound: bool
    guesses: tuple[tuple[str, float], ...]


class VideoReconstruction:
    """A video autoencoder with what it needs before and after.

    Args:
        source: a workdir, `FORMAT:PATH-OR-HUB-ID`, or the model; its card tells the rates of frames
            and sound and names of classes.

    Raises:
        UserError: it is no video autoencoder.
    """

    def __init__(self, source: Source):
        release = as_release(source)
        encoder = half_of(release.config, "encoder")
        if not isinstance(encoder, VideoEncoderConfig):
            raise UserError(
                f"{kind_of(release.config)} does not reconstruct videos; take a video autoencoder "
                "(VideoEncoderConfig)"
            )
        if encoder.video_shape[-1] != 3:
            raise UserError(
                f"the model takes videos of {encoder.video_shape[-1]} colours; files have 3"
            )
        self.encoder = encoder
        self.model = release.model()
        self.preprocessing = release.card.video or VideoPreprocessing()
        self.labels = release.card.labels or tuple(f"class {i}" for i in range(encoder.num_classes))

    @property
    def clip_seconds(self) -> float:
        """How long a clip lasts."""
        return self.encoder.video_shape[0] / self.preprocessing.frame_rate

    def __call__(
        self, path: Path | str, *, start_s: float = 0.0, num_clips: int = 1, top: int = 5
    ) -> Iterator[Reconstruction]:
        """Yields clips that follow each other, each by itself.

        Args:
            path: a video file.
            start_s: where the first clip begins, in seconds.
            num_clips: how many.
            top: how many classes are guessed.

        Raises:
            UserError: the file cannot be read, or is too short.
        """
        for i in range(num_clips):
            yield self._reconstruct(path, start_s + i * self.clip_seconds, top)

    def _reconstruct(self, path: Path | str, start_s: float, top: int) -> Reconstruction:
        frames, height, width, _ = self.encoder.video_shape
        clip = read_clip(
            path,
            start_s=start_s,
            num_frames=frames,
            frame_rate=self.preprocessing.frame_rate,
            image_size=(height, width),
            num_samples=self.encoder.num_samples,
            sample_rate=self.preprocessing.sample_rate,
        )
        inputs = {"image": clip.frames[None].astype(np.float32) / 255.0}
        # Training gives silence for no sound; only where it hides sound was the other way learned.
        if clip.has_sound or self.encoder.audio_mask_rate == 0.0:
            inputs["audio"] = np.asarray(clip.sound)[None]
        outputs = jax.tree.map(lambda x: np.asarray(x[0]), _predict(self.model, inputs))
        probabilities = outputs["label"]
        order = np.argsort(-probabilities, kind="stable")[:top]
        return Reconstruction(
            seen=clip.frames,
            frames=np.round(np.clip(outputs["image"], 0.0, 1.0) * 255).astype(np.uint8),
            sound=np.clip(outputs["audio"], -1.0, 1.0).astype(np.float32),
            has_sound=clip.has_sound,
            guesses=tuple((self.labels[i], float(probabilities[i])) for i in order),
        )


@jax.jit
def _predict(model, inputs):
    outputs = model(inputs)
    return outputs | {"label": jax.nn.softmax(outputs["label"])}
