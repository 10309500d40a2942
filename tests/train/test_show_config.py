"""Lines of a config, as wide as a terminal and wider."""

import dataclasses
from typing import Literal

import pytest

from configs import digits
from perceiver_jax.config import from_dict, setting
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.show_config import describe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Car:
    """Fields with choices."""

    colour: Literal["red", "blue"] = setting("red", "'red', or 'blue' on request")
    trim: Literal["s", "l"] = setting("s", "'s' is small")
    size: Literal["s", "l"] | None = setting(None, "'s' or 'l'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trailer:
    """Fields as dataclasses have them, without a meaning."""

    num_axles: int = 2
    colours: tuple[str, ...] = dataclasses.field(default_factory=lambda: ("red",))
    car: Car = dataclasses.field(default_factory=Car)


def test_fields_without_a_meaning_show_their_type():
    lines = [" ".join(line.split()) for line in describe(Trailer(colours=("blue",)))]
    assert lines[:3] == [
        "num_axles = 2 # int",
        "colours = ('blue',) (default ('red',)) # tuple[str, ...]",
        "car: Car",
    ]


def test_choices_are_named_once():
    meanings = [line.partition(" # ")[2] for line in describe(Car())]
    assert meanings == [
        "'red', or 'blue' on request",
        "'s' or 'l'; 's' is small",
        "'s' or 'l' or None; 's' or 'l'",
    ]


@pytest.mark.parametrize("width", [70, 80, 119, 120, 160])
def test_meanings_are_no_longer_than_a_terminal(width):
    config = from_dict(ExperimentConfig, digits.get_config())
    lines, whole = describe(config, width=width), describe(config)
    assert max(len(line) for line in lines if "# " in line) <= width < max(map(len, whole))
    assert words(lines) == words(whole)


def words(lines):
    return [word for line in lines for word in line.replace(" # ", " ").split()]


def test_a_meaning_goes_on_beside_or_below():
    wide = describe(Car(), width=125)
    assert wide == describe(Car())
    below = describe(Car(), width=50)
    assert below[:2] == ["colour = 'red'", "    # 'red', or 'blue' on request"]
    beside = describe(from_dict(ExperimentConfig, digits.get_config()), width=130)
    at = next(i for i, line in enumerate(beside) if " activation = " in line)
    assert " # of the MLPs: 'gelu'" in beside[at]
    assert beside[at + 1].startswith(f"{'':<60} # ")
