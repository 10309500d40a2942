"""Dataclasses as the schema of everything configurable; ConfigDict only carries overrides.

- `setting` gives a field its meaning; `python -m perceiver_jax.config FILE` prints them all.
- A field that may hold one of several dataclasses carries its choice as `kind`: one of a union
  of types, or any subclass of an `OpenChoice`, wherever it is defined.
- Every error names the field, what it got, what it takes and the nearest right name.
"""

import dataclasses
import difflib
import inspect
import numbers
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from ml_collections import config_dict

from perceiver_jax.errors import UserError

KIND = "kind"

T = typing.TypeVar("T")


class OpenChoice:
    """Base of a dataclass of which a field takes any subclass that has been imported.

    What inherits from it directly is such a base; what inherits from that is a choice.
    """

    @classmethod
    def choices(cls) -> list[type]:
        """The dataclasses below this one, of those of one name the last."""
        found: dict[str, type] = {}
        for child in cls.__subclasses__():
            if dataclasses.is_dataclass(child) and not inspect.isabstract(child):
                found[child.__name__] = child
            found |= {choice.__name__: choice for choice in child.choices()}
        return list(found.values())


class ConfigError(UserError):
    """A config that cannot be used, with the field and the remedy."""


def setting(default: Any = dataclasses.MISSING, doc: str = "", *, minimum: int = 1) -> Any:
    """A dataclass field with a meaning, unit or range to show to users.

    Args:
        default: as in `dataclasses.field`; left out, the field must be given.
        doc: what the field means.
        minimum: least value of a field whose name starts with `num_`, see `check_fields`.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, "minimum": minimum})


def check_fields(config: Any) -> None:
    """Brings the fields of a frozen dataclass to their types, and refuses what is none of them.

    Numbers of NumPy become Python's, lists become tuples, whole numbers real ones where these are
    wanted. Fields of types that no config file can hold are left alone.

    Raises:
        ValueError: a value of another type, a number of things below its minimum, a rate outside
            [0, 1), or a word that is none of the field's choices.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        hint, value = hints[field.name], getattr(config, field.name)
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
            if value not in choices:
                listed = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"{field.name}={value!r} is none of {listed}")
        elif _is_plain(hint):
            value = _settled(hint, value, field.name)
            object.__setattr__(config, field.name, value)
        if field.name.endswith("dropout") and value is not None and not 0.0 <= value < 1.0:
            raise ValueError(f"{field.name}={value} is not a rate in [0, 1)")
        if field.name.startswith("num_") and value is not None:
            minimum = field.metadata.get("minimum", 1)
            if value < minimum:
                raise ValueError(f"{field.name}={value} is too small; it must be {minimum} or more")


def check_size(name: str, value: Any) -> None:
    """Raises a ValueError for what is no whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name}={value!r} is not valid; it takes a whole number, 1 or more")


def part(config: Any, cls: type) -> dict[str, Any]:
    """The fields of `config` that `cls`, a base class of its type, has."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(cls)}


def check_regex(pattern: str, where: str) -> None:
    """Raises a ValueError for what is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{where} has '{pattern}', no regular expression: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested plain dicts and lists, fit for JSON."""
    hints = typing.get_type_hints(type(config))
    tree = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            kind = {KIND: type(value).__name__} if _is_choice(hints[field.name]) else {}
            tree[field.name] = kind | to_dict(value)
        else:
            tree[field.name] = list(value) if isinstance(value, tuple) else value
    return tree


def from_dict(
    cls: type[T], tree: T | Mapping[str, Any] | config_dict.ConfigDict, where: str = "config"
) -> T:
    """The inverse of `to_dict` and `to_config_dict`, checked.

    Args:
        cls: a dataclass.
        tree: nested mappings or a ConfigDict; what is of the dataclass already stays as it is.
        where: name of the tree in error messages.

    Raises:
        ConfigError: an unknown field, a missing one, a value of another type, or one that the
            dataclass refuses.
    """
    if isinstance(tree, cls):
        return tree
    if isinstance(tree, config_dict.ConfigDict):
        tree = tree.to_dict()
    if not isinstance(tree, Mapping):
        given = with_article(type(tree))
        raise ConfigError(f"{where} is {given}; it takes {with_article(cls)}, or its fields")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # pyright: ignore
    for name in tree:
        if name not in fields and name != KIND:
            raise ConfigError(f"{where} has no field '{name}'{suggestion(name, fields)}")
    values = {}
    for name, field in fields.items():
        if name in tree:
            values[name] = _convert(hints[name], tree[name], f"{where}.{name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            doc = field.metadata.get("doc")
            raise ConfigError(f"{where}.{name} is missing{f': {doc}' if doc else ''}")
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_config_dict(config: Any) -> config_dict.ConfigDict:
    """A dataclass as a ConfigDict: what a config file returns and command lines override."""
    tree = config_dict.ConfigDict()
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            child = to_config_dict(value)
            if _is_choice(hint):
                child[KIND] = type(value).__name__
            tree[field.name] = child
        elif value is None:
            # A plain None could not be overridden: ConfigDict would not know the type.
            tree[field.name] = config_dict.placeholder(_value_type(hint))
        else:
            tree[field.name] = value
    return tree


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """'; did you mean ...?' or, without a near name, the list of known ones."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; it has {', '.join(known)}"


def choice_to_dict(config: Any) -> dict[str, Any]:
    """`to_dict`, with the kind of the dataclass, for a tree that may be one of several."""
    return {KIND: type(config).__name__} | to_dict(config)


def choice_from_dict(choices: Any, tree: Any, where: str = "config") -> Any:
    """The inverse: `from_dict` of that dataclass of a union which the tree names.

    Raises:
        ConfigError: as `from_dict`; or the tree names none of them.
    """
    return _convert(choices, tree, where)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A value as the type hint has it, or a ConfigError."""
    options = _options(hint)
    if value is None:
        if type(None) in options:
            return None
        raise ConfigError(f"{where} is not set; it takes {describe_type(hint)}")
    classes = _choices(hint)
    if classes:
        return _convert_part(classes, value, where, is_open=any(map(_is_open, options)))
    for option in options:
        origin = typing.get_origin(option)
        if origin is Literal and value in typing.get_args(option):
            return value
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if option is bool and value in ("True", "False"):  # a text on the command line elsewhere
            return value == "True"
        if origin is tuple and isinstance(value, list | tuple):
            return _convert_tuple(typing.get_args(option), value, hint, where)
        if isinstance(option, type) and isinstance(value, option):
            if not (isinstance(value, bool) and option is not bool):
                return value
    raise ConfigError(f"{where}={value!r} is not valid; it takes {describe_type(hint)}")


def _is_plain(hint: Any) -> bool:
    """Whether config files can hold values of this type."""
    return all(
        option in (type(None), bool, int, float, str)
        or typing.get_origin(option) in (Literal, tuple)
        or _choices(option)
        for option in _options(hint)
    )


def _settled(hint: Any, value: Any, name: str) -> Any:
    """A value as a field of this type holds it, or a ValueError."""
    if _choices(hint):
        kinds = tuple(option for option in _options(hint) if isinstance(option, type))
        if isinstance(value, kinds):
            return value
        raise ValueError(f"{name} is {with_article(type(value))}; it takes {describe_type(hint)}")
    try:
        converted = _convert(hint, _without_numpy(value), name)
        if isinstance(converted, bool) and isinstance(value, str):
            raise ConfigError("texts are of command lines")
    except ConfigError:
        takes = describe_type(hint)
        raise ValueError(f"{name}={value!r} is not valid; it takes {takes}") from None
    return converted


def _without_numpy(value: Any) -> Any:
    """Numbers of NumPy as Python's, also those in lists and tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_without_numpy, value))
    return value.item() if isinstance(value, np.generic) else value


def _convert_part(classes: list[Any], value: Any, where: str, *, is_open: bool) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}={value!r} is not a group of fields")
    by_name = {cls.__name__: cls for cls in classes}
    # What was saved when there was no choice yet has no kind: it is of the first.
    first = classes[0].__name__
    kind = value.get(KIND, first) if len(classes) > 1 or is_open else first
    if kind not in by_name:
        own = (
            "; a class of your own must be imported first, as in a script that "
            "imports its file and calls what the command calls"
            if is_open
            else ""
        )
        raise ConfigError(
            f"{where}.{KIND}={kind!r} is not valid; it takes {', '.join(by_name)}{own}"
        )
    return from_dict(by_name[kind], value, where)


def _convert_tuple(args: tuple, value: Any, hint: Any, where: str) -> tuple:
    hints = [args[0]] * len(value) if args[1:] == (...,) else list(args)
    if len(hints) != len(value):
        how = f": {len(hints)} values, such as {','.join(['3'] * len(hints))}"
        raise ConfigError(f"{where}={value!r} is not valid; it takes {describe_type(hint)}{how}")
    return tuple(
        _convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True))
    )


def _options(hint: Any) -> list[Any]:
    """The members of a union, or the hint alone."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(typing.get_args(hint))
    return [hint]


def _choices(hint: Any) -> list[Any]:
    """The dataclasses that a field may hold, those of a union in its order."""
    found: list[Any] = []
    for option in _options(hint):
        if _is_open(option):
            found += option.choices()
        elif dataclasses.is_dataclass(option):
            found.append(option)
    return found


def _is_open(option: Any) -> bool:
    return isinstance(option, type) and OpenChoice in option.__bases__


def _is_choice(hint: Any) -> bool:
    return len(_choices(hint)) > 1 or any(map(_is_open, _options(hint)))


def _value_type(hint: Any) -> type:
    """The plain type of an optional field, for a ConfigDict placeholder."""
    option = next(option for option in _options(hint) if option is not type(None))
    origin = typing.get_origin(option)
    if origin is Literal:
        return type(typing.get_args(option)[0])
    return origin or option


def describe_type(hint: Any) -> str:
    """A type hint in words: what a field takes."""
    words = []
    for option in _options(hint):
        origin = typing.get_origin(option)
        if option is type(None):
            words.append("None")
        elif origin is Literal:
            words.extend(repr(value) for value in typing.get_args(option))
        elif origin is tuple:
            words.append(str(option).replace("typing.", ""))
        else:
            words.append(option.__name__)
    return " or ".join(words)


def with_article(kind: type) -> str:
    """The name of a type as a sentence takes it: "an ImageEncoderConfig"."""
    name = kind.__name__
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"


if __name__ == "__main__":
    from perceiver_jax.command import stop_without_trace

    stop_without_trace()
    # Whole experiments are the business of `train`, which knows every part.
    from perceiver_jax.train import show_config

    show_config.main()
