"""From raw input to arrays, told in numbers and in words: what the pipelines here do."""

import dataclasses
from typing import Any

from perceiver_jax.card import (
    ImagePreprocessing,
    MusicPreprocessing,
    TextPreprocessing,
    VideoPreprocessing,
)
from perceiver_jax.config import choice_to_dict, to_dict
from perceiver_jax.data import LabelledDataConfig
from perceiver_jax.data.music.performance import (
    NOTE_OFF,
    NOTE_ON,
    PAD_ID,
    TIME_SHIFT,
    VELOCITY,
)
from perceiver_jax.data.text.tokenizers import ByteTokenizer
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import Release
from perceiver_jax.pipelines.texts import TextReader

OF_THE_RUN = (
    "data_dir",
    "cache_dir",
    "train_split",
    "eval_split",
    "batch_size",
    "eval_batch_size",
)
"""Fields of data configs that say nothing of how an example is made ready."""
_RESIZING = {
    "opencv": "resize by OpenCV's INTER_CUBIC",
    "pillow": "resize by Pillow's BICUBIC, each channel by itself",
    "area": "resize by OpenCV's INTER_AREA where the picture shrinks, else by INTER_CUBIC",
}


def preprocessing(release: Release, data: Any) -> dict[str, Any]:
    """What is known of it: by kind, numbers and `steps`, sentences in their order.

    Args:
        release: the model with its card.
        data: the config of the data that it was trained on; None where that is not known.
    """
    card, told = release.card, {}
    if card.preprocessing is not None:
        told["image"] = _image(card.preprocessing)
    if card.text is not None:
        told["text"] = _text(release, card.text)
    if card.music is not None:
        told["music"] = _music(card.music)
    if card.video is not None:
        told["video"] = _video(card.video)
    if isinstance(data, LabelledDataConfig):
        told["data"] = _data(data)
    return told


def _image(how: ImagePreprocessing) -> dict[str, Any]:
    height, width, channels = how.image_shape
    steps = [f"take 8-bit pixels with {'red, green and blue' if channels == 3 else 'grey'} last"]
    if how.crop is not None:
        rounding = "down" if how.resampling == "pillow" else "up"
        steps.append(
            f"keep the central square whose side is int({how.crop} * min(height, width)); it "
            f"begins at half of what is left over, rounded {rounding}"
        )
    steps.append(f"{_RESIZING[how.resampling]} to {height}×{width}, in 8 bits")
    steps.append("(pixel * scale - mean) / std, by channel, in float32")
    return {**to_dict(how), "scale": 1 / 255, "steps": steps}


def _text(release: Release, how: TextPreprocessing) -> dict[str, Any]:
    reader = TextReader(release)
    tokenizer = reader.tokenizer
    ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "mask", "cls", "sep", "eos")}
    if isinstance(tokenizer, ByteTokenizer):
        offset = len(tokenizer.special_ids)
        steps = [f"every UTF-8 byte is a token, of id byte + {offset}; ids below are special"]
    else:
        steps = [f"tokens of {how.tokenizer}, without special tokens around them"]
    if how.add_special_tokens:
        steps.append("put cls before the text and sep behind it")
    steps.append("pad with pad where input_mask is False")
    return {**to_dict(how), "ids": ids, "special_ids": sorted(tokenizer.special_ids)} | {
        "steps": steps
    }


def _music(how: MusicPreprocessing) -> dict[str, Any]:
    velocity = (
        "each note has an event of velocity before it"
        if how.every_velocity
        else "an event of velocity stands before a note where it is not that of the note before"
    )
    steps = [
        f"notes begin ({NOTE_ON} + pitch) and end ({NOTE_OFF} + pitch)",
        f"time passes ({TIME_SHIFT} + ticks - 1, a tick is 10 ms, an event passes up to 1 s)",
        f"velocity is {VELOCITY} + velocity // 4; {velocity}",
        "at one time notes end before others begin, each by pitch",
        f"pad with {PAD_ID} where input_mask is False",
    ]
    return {**to_dict(how), "pad": PAD_ID, "steps": steps}


def _video(how: VideoPreprocessing) -> dict[str, Any]:
    steps = [
        f"take {how.frame_rate:g} frames a second, each resized to those of the model",
        f"take the sound of the same time, the mean of its channels, {how.sample_rate} samples a "
        "second in [-1, 1]",
    ]
    return {**to_dict(how), "steps": steps}


def _data(data: LabelledDataConfig) -> dict[str, Any]:
    """What the run's own data did, with the meaning of each field."""
    tree = choice_to_dict(data)
    fields = {name: value for name, value in tree.items() if name not in OF_THE_RUN}
    docs = {
        field.name: field.metadata["doc"]
        for field in dataclasses.fields(data)
        if field.name in fields and field.metadata.get("doc")
    }
    try:
        constants: Any = {name: list(values) for name, values in data.constants().items()}
    except UserError as error:
        constants = f"not known: {error}"
    return {"settings": fields, "meanings": docs, "constants": constants}
