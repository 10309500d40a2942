"""Where music comes from: pieces one after the other, never all in memory."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from perceiver_jax.data.music.config import MusicDataConfig
from perceiver_jax.data.music.performance import Note
from perceiver_jax.data.sources import DatasetError


class Pieces(Protocol):
    """A split of a dataset, in an order that is always the same."""

    @property
    def fingerprint(self) -> str:
        """Tells whether the pieces are those of another time, before they are read."""
        ...

    def __iter__(self) -> Iterator[Sequence[Note]]:
        """The notes of each piece."""
        ...


def open_pieces(config: MusicDataConfig, split: str) -> Pieces:
    """The pieces of a split.

    Args:
        config: names the dataset.
        split: "train", "test", or whatever splits the dataset has.

    Raises:
        DatasetError: no such dataset or split, or it is not there.
    """
    from perceiver_jax.data.music import folders

    scheme, _, rest = config.dataset.partition(":")
    in_folders = {
        "maestro": folders.maestro,
        "giantmidi": folders.giantmidi,
        "files": folders.midi_files,
    }
    if scheme in in_folders and rest:
        return in_folders[scheme](rest, split)
    if config.dataset == "chorales":
        from perceiver_jax.data.music.chorales import Chorales

        return Chorales(split, config.data_dir)
    if config.dataset == "synthetic":
        from perceiver_jax.data.music.synthetic import SyntheticPieces

        return SyntheticPieces(split)
    raise DatasetError(
        f"no music dataset is called '{config.dataset}'; there are chorales, synthetic, "
        "'maestro:PATH', 'giantmidi:PATH' and 'files:PATH' for a folder of .mid files"
    )
