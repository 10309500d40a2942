import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from absl import flags
from ml_collections import config_dict, config_flags

from perceiver_jax import config
from perceiver_jax.config import ConfigError, from_dict, setting, to_config_dict, to_dict
from perceiver_jax.models import MeanPoolDecoderConfig, PerceiverConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wheel:
    """One of two parts."""

    num_spokes: int = setting(8, "spokes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rail:
    """The other."""

    gauge: float = setting(1.435, "m")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Car:
    """One field of every kind."""

    name: str = setting(doc="what it is called")
    on: Wheel | Rail = setting(Wheel(), "what it runs on")
    colour: Literal["red", "blue"] = setting("red", "colour")
    length: float = setting(4.5, "m")
    num_seats: int = setting(4, "seats", minimum=0)
    electric: bool = setting(False, "whether it is")
    size: tuple[int, int] = setting((2, 3), "width, height")
    stops: tuple[float, ...] = setting((), "km")
    owner: str | None = setting(None, "or nobody")
    top_speed: float | None = setting(None, "km/h")
    trim: Literal["s", "l"] | None = setting(None, "or none")
    crate: tuple[int, int] | None = setting(None, "or none")
    wear_dropout: float = setting(0.0, "rate")

    def __post_init__(self):
        config.check_fields(self)


CARS = [
    Car(name="plain"),
    Car(
        name="every field",
        on=Rail(gauge=1.0),
        colour="blue",
        length=9.0,
        num_seats=0,
        electric=True,
        size=(5, 6),
        stops=(1.5, 2.5, 3.5),
        owner="someone",
        top_speed=120.0,
        trim="l",
        crate=(7, 8),
        wear_dropout=0.5,
    ),
]


@pytest.fixture(params=["default", "every preprocessing field", "pooled"])
def perceiver_config(request, tiny_config):
    if request.param == "default":
        return tiny_config()
    if request.param == "pooled":
        return tiny_config(MeanPoolDecoderConfig(num_classes=7, norm=True))
    return tiny_config(
        preprocessing="patches",
        patch_size=4,
        num_preprocessing_channels=6,
        max_resolution=(3.0, 4.0),
        init_scale=0.1,
        dropout=0.1,
        remat=True,
    )


def assert_survives_every_form(value):
    cls = type(value)
    assert from_dict(cls, to_dict(value)) == value
    assert json.loads(json.dumps(to_dict(value))) == to_dict(value)
    assert from_dict(cls, to_config_dict(value)) == value
    locked = to_config_dict(value).lock()
    assert from_dict(cls, json.loads(locked.to_json_best_effort())) == value


@pytest.mark.parametrize("car", CARS)
def test_a_config_survives_dict_json_and_config_dict(car):
    assert_survives_every_form(car)


def test_a_model_config_survives_dict_json_and_config_dict(perceiver_config):
    assert_survives_every_form(perceiver_config)


def test_types_survive_exactly():
    back = from_dict(Car, json.loads(json.dumps(to_dict(CARS[1]))))
    assert type(back.size) is tuple and type(back.stops) is tuple and type(back.crate) is tuple
    assert type(back.on) is Rail and type(back.electric) is bool


def test_a_whole_number_is_a_float_where_one_is_wanted():
    length = from_dict(Car, {"name": "a", "length": 5}).length
    assert type(length) is float and length == 5.0


@pytest.mark.parametrize(
    "tree, message",
    [
        ({"colr": "red"}, "config has no field 'colr'; did you mean 'colour'?"),
        ({"zzz": 1}, "config has no field 'zzz'; it has name, on, colour, length, num_seats"),
        ({"on": {"kind": "Wheel", "num_spoke": 1}}, "config.on has no field 'num_spoke'; did you"),
        ({"length": "long"}, "config.length='long' is not valid; it takes float"),
        ({"length": True}, "config.length=True is not valid; it takes float"),
        ({"num_seats": 2.0}, "config.num_seats=2.0 is not valid; it takes int"),
        ({"num_seats": True}, "config.num_seats=True is not valid; it takes int"),
        ({"electric": 1}, "config.electric=1 is not valid; it takes bool"),
        ({"name": 3}, "config.name=3 is not valid; it takes str"),
        ({"name": None}, "config.name is not set; it takes str"),
        ({"owner": 3}, "config.owner=3 is not valid; it takes str or None"),
        ({"colour": "green"}, "config.colour='green' is not valid; it takes 'red' or 'blue'"),
        ({"trim": "x"}, "config.trim='x' is not valid; it takes 's' or 'l' or None"),
        ({"size": (1, 2, 3)}, "config.size=(1, 2, 3) is not valid; it takes tuple[int, int]: "),
        ({"size": (1, 2.5)}, "config.size[1]=2.5 is not valid; it takes int"),
        ({"size": 1}, "config.size=1 is not valid; it takes tuple[int, int]"),
        ({"stops": [1.0, "b"]}, "config.stops[1]='b' is not valid; it takes float"),
        ({"on": 3}, "config.on=3 is not a group of fields"),
        ({"on": {"gauge": 1.0}}, "config.on has no field 'gauge'"),  # without kind, the first
        ({"on": {"kind": "Sled"}}, "config.on.kind='Sled' is not valid; it takes Wheel, Rail"),
        ({"on": {"kind": "Rail", "num_spokes": 3}}, "config.on has no field 'num_spokes'"),
        ({"num_seats": -1}, "config: num_seats=-1 is too small; it must be 0 or more"),
        ({"wear_dropout": 1.0}, "config: wear_dropout=1.0 is not a rate in [0, 1)"),
    ],
)
def test_an_error_names_the_field_what_it_got_and_what_it_takes(tree, message):
    with pytest.raises(ConfigError) as caught:
        from_dict(Car, {"name": "a"} | tree)
    assert str(caught.value).startswith(message)


def test_a_missing_field_is_asked_for_with_its_meaning():
    with pytest.raises(ConfigError, match="config.name is missing: what it is called"):
        from_dict(Car, {})


def test_errors_inside_a_model_config_name_the_whole_path(tiny_config):
    tree = to_dict(tiny_config())
    tree["encoder"]["num_self_attention_block"] = 3
    message = (
        "config.encoder has no field 'num_self_attention_block'; did you mean "
        "'num_self_attention_blocks'?"
    )
    with pytest.raises(ConfigError) as caught:
        from_dict(PerceiverConfig, tree)
    assert str(caught.value) == message


def test_what_a_dataclass_refuses_is_a_config_error(tiny_config):
    tree = to_dict(tiny_config())
    tree["encoder"]["num_cross_attention_layers"] = 3
    with pytest.raises(ConfigError, match="^config.encoder: num_cross_attention_layers=3 exceeds"):
        from_dict(PerceiverConfig, tree)


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("owner", "someone", "someone"),
        ("top_speed", "99.5", 99.5),
        ("top_speed", "99", 99.0),
        ("trim", "s", "s"),
        ("crate", "(1, 2)", (1, 2)),
        ("size", "(9, 9)", (9, 9)),
        ("stops", "(1.5, 2)", (1.5, 2.0)),
        ("electric", "true", True),
        ("on.num_spokes", "5", 5),
    ],
)
def test_command_lines_override_every_field_unset_ones_included(monkeypatch, name, text, value):
    monkeypatch.setattr("sys.argv", ["program", f"--car.{name}={text}"])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("car", to_config_dict(CARS[0]), flag_values=values)
    values(sys.argv)
    found = from_dict(Car, values.car)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("name, value", [("owner", 3), ("top_speed", "fast"), ("length", "long")])
def test_overrides_of_another_type_are_refused(name, value):
    tree = to_config_dict(CARS[0])
    with pytest.raises((TypeError, ConfigError)):
        tree[name] = value
        from_dict(Car, tree)


def test_overrides_of_unknown_fields_are_refused_with_a_suggestion():
    tree = to_config_dict(CARS[0])
    tree.colr = "red"
    with pytest.raises(ConfigError, match="config has no field 'colr'; did you mean 'colour'?"):
        from_dict(Car, tree)


def test_the_kind_of_a_choice_is_kept_and_only_there(tiny_config):
    tree = to_config_dict(tiny_config(MeanPoolDecoderConfig()))
    assert tree.decoder.kind == "MeanPoolDecoderConfig"
    assert "kind" not in tree
    assert to_dict(CARS[1])["on"] == {"kind": "Rail", "gauge": 1.0}
    assert "kind" not in to_dict(CARS[1])


def test_the_kind_of_a_choice_can_be_changed():
    tree = to_dict(CARS[0]) | {"on": {"kind": "Rail"}}
    assert from_dict(Car, tree).on == Rail()


def test_config_dicts_inside_mappings_are_read_as_well():
    inner = config_dict.ConfigDict({"kind": "Rail", "gauge": 0.6})
    outer = config_dict.ConfigDict({"name": "a", "on": inner})
    assert from_dict(Car, outer).on == Rail(gauge=0.6)


def test_part_takes_the_fields_of_a_base_class():
    @dataclasses.dataclass(frozen=True)
    class Base:
        a: int = 1

    @dataclasses.dataclass(frozen=True)
    class Derived(Base):
        b: int = 2

    assert config.part(Derived(a=5), Base) == {"a": 5}


def test_unset_numbers_have_no_minimum():
    @dataclasses.dataclass(frozen=True)
    class Optional:
        num_things: int | None = setting(None)

    config.check_fields(Optional())
    with pytest.raises(ValueError, match="num_things=0 is too small; it must be 1 or more"):
        config.check_fields(Optional(num_things=0))


@pytest.mark.parametrize("field", dataclasses.fields(PerceiverConfig))
def test_every_setting_of_a_model_has_a_meaning(field):
    assert field.metadata["doc"]
    if dataclasses.is_dataclass(field.type):
        for inner in dataclasses.fields(field.type):
            assert inner.metadata["doc"], inner.name


def test_what_was_saved_before_there_was_a_choice_is_of_its_first_kind(tiny_config):
    config = tiny_config()
    tree = to_dict(config)
    del tree["encoder"]["kind"]
    assert from_dict(type(config), tree) == config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine(config.OpenChoice):
    """Whatever drives."""

    power: float = setting(1.0, "kW")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """With an engine, of which there may be more kinds than this file knows."""

    engine: Engine | Wheel = setting(Wheel(), "what drives it")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steam(Engine):
    """The one kind at first."""


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_seats": "4"}, "num_seats='4' is not valid; it takes int"),
        ({"num_seats": 4.0}, "num_seats=4.0 is not valid; it takes int"),
        ({"num_seats": None}, "num_seats=None is not valid; it takes int"),
        ({"num_seats": True}, "num_seats=True is not valid; it takes int"),
        ({"electric": "no"}, "electric='no' is not valid; it takes bool"),
        ({"electric": "False"}, "electric='False' is not valid; it takes bool"),
        ({"size": (1, 2, 3)}, r"size=\(1, 2, 3\) is not valid"),
        ({"wear_dropout": "0.1"}, "wear_dropout='0.1' is not valid; it takes float"),
        ({"on": Engine()}, "on is an Engine; it takes Wheel or Rail"),
    ],
)
def test_a_dataclass_refuses_values_of_other_types(fields, message):
    with pytest.raises(ValueError, match=message):
        Car(name="x", **fields)


def test_whole_numbers_become_real_lists_tuples_and_numbers_of_numpy_those_of_python():
    numbers = np.array([2, 3])
    car = Car(name="x", length=4, stops=[1, 2.5], num_seats=numbers.max(), size=tuple(numbers))
    assert car == Car(name="x", length=4.0, stops=(1.0, 2.5), num_seats=3, size=(2, 3))
    assert json.loads(json.dumps(to_dict(car)))["num_seats"] == 3
    hash(car)
    assert Car(name="x", wear_dropout=np.float32(0.5)).wear_dropout == 0.5


def test_fields_that_no_config_file_can_hold_are_left_alone():
    @dataclasses.dataclass(frozen=True)
    class Own:
        """Of somebody who builds configs in Python alone."""

        read: Callable[[], int] = setting(lambda: 3, "how")
        anything: Any = setting(None, "whatever")
        names: list[str] = setting(("a",), "names")

        def __post_init__(self):
            config.check_fields(self)

    assert Own(anything=object, names=["b"]).names == ["b"]


def test_an_open_choice_takes_an_instance_of_any_class_below():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Checked(Train):
        """A train that looks at its fields."""

        def __post_init__(self):
            config.check_fields(self)

    assert Checked(engine=Steam()).engine == Steam()
    with pytest.raises(ValueError, match="engine is a Rail; it takes Engine or Wheel"):
        Checked(engine=Rail())


def test_an_open_choice_of_one_class_carries_its_kind():
    train = Train(engine=Steam(power=2.0))
    for tree in (to_dict(train), to_config_dict(train)):
        assert tree["engine"]["kind"] == "Steam"
        assert from_dict(Train, tree) == train


def test_an_open_choice_knows_classes_that_are_defined_later_and_below():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Compound(Steam):
        """A kind of steam engine."""

    assert from_dict(Train, to_dict(Train(engine=Compound()))) == Train(engine=Compound())


def test_the_base_of_an_open_choice_is_none():
    with pytest.raises(ConfigError, match="kind='Engine' is not valid; it takes Steam"):
        from_dict(Train, {"engine": {"kind": "Engine"}})


def test_an_unknown_kind_of_an_open_choice_says_that_it_has_to_be_imported():
    with pytest.raises(ConfigError, match="a class of your own must be imported first"):
        from_dict(Train, {"engine": {"kind": "Diesel"}})
    with pytest.raises(ConfigError) as closed:
        from_dict(Car, {"name": "x", "on": {"kind": "Diesel"}})
    assert "imported" not in str(closed.value)


# ---- Fields without a meaning --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain:
    """Fields as dataclasses have them."""

    num_kinds: int = 4
    names: tuple[str, ...] = dataclasses.field(default_factory=lambda: ("a",))
    size: int

    def __post_init__(self):
        config.check_fields(self)


def test_plain_fields_are_settings_without_a_meaning():
    assert from_dict(Plain, {"size": 1}) == Plain(size=1)
    assert from_dict(Plain, to_config_dict(Plain(size=2, num_kinds=3))) == Plain(
        size=2, num_kinds=3
    )
    with pytest.raises(ValueError, match="num_kinds=0 is too small; it must be 1 or more"):
        Plain(size=1, num_kinds=0)
    with pytest.raises(ConfigError, match=r"^config.size is missing$"):
        from_dict(Plain, {})


def test_a_dataclass_itself_stays_as_it_is_and_another_is_refused():
    plain = Plain(size=1)
    assert from_dict(Plain, plain) is plain
    with pytest.raises(ConfigError, match="config is a Plain; it takes a Car, or its fields"):
        from_dict(Car, plain)
