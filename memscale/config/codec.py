"""Converts between frozen dataclasses and plain JSON or YAML values, strictly, in both directions.

Refuses a wrong key, type or value; the message names the place, the value, the valid ones and the nearest spelling.
Where a number is needed, a number written as text is accepted, since YAML reads `1e18` as text; a fraction is not
accepted for an integer.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from memscale.config.checks import is_left_out
from memscale.config.data import SOURCES, Source
from memscale.config.family import FAMILY_CLASSES, Family
from memscale.config.grid import Axis
from memscale.config.launcher import Launcher
from memscale.config.matching import Free, MultipleOf, Throughput
from memscale.config.ranges import RangeError
from memscale.config.recipe import Multiplier
from memscale.config.slurm_options import SbatchOption, Variable
from memscale.errors import ConfigError, nearest, shown

T = TypeVar("T")

Describe = Callable[[str], str]
"""Describes where a key is set, such as 'scale.seeds (sweeps/scale/laptop.yaml)'."""

# Classes chosen by a value in the YAML: base class -> (the key that holds the value, value -> class).
_CHOICES: dict[type, tuple[str, dict[str, type]]] = {
    Source: ("kind", {cls.kind: cls for cls in SOURCES}),
    Family: ("family", {cls.family: cls for cls in FAMILY_CLASSES}),
}
_RENAMED: dict[type, dict[str, str]] = {Launcher: {"slots": "workers"}}
"""Keys of earlier versions, by class, and their present names."""
# Tuples written as a mapping in YAML: element class -> the field that takes the mapping's key and, where an element is
# a single value, the field that takes that value.
_KEYED: dict[type, tuple[str, str | None]] = {
    Source: ("name", None),
    Family: ("name", None),
    Axis: ("key", "values"),
    Free: ("name", "widths"),
    MultipleOf: ("width", "value"),
    Multiplier: ("name", "value"),
    Throughput: ("name", "flops_per_second"),
    SbatchOption: ("name", "value"),
    Variable: ("name", "value"),
}


def to_plain(value: Any) -> Any:
    """Return `value` as dicts, lists, strings, numbers, booleans and None.

    Args:
        value: A dataclass, or a tuple, list, string, number, boolean or None.

    Raises:
        TypeError: A value of any other type.

    Example:
        >>> from memscale.config.optimizer import Schedule
        >>> to_plain(Schedule(kind="cosine", decay_fraction=0.5))["decay_fraction"]
        0.5
        >>> from_plain(Schedule, {"kind": "cosine"}) == Schedule(kind="cosine")
        True
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        plain = {field.name: to_plain(one) for field, one in held if not is_left_out(field, one)}
        for base, (key, _) in _CHOICES.items():
            if isinstance(value, base):
                plain = {key: getattr(value, key), **plain}
        return plain
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{value!r} of type {type(value).__name__} has no plain form")


def from_plain(cls: type[T], plain: Any, where: str = "", describe: Describe = str) -> T:
    """Build a dataclass from plain values; the inverse of `to_plain`.

    Args:
        cls: The dataclass to build. For a base class of sources or families, the value of `kind` or `family` in `plain`
            chooses the subclass.
        plain: A mapping from field names to plain values.
        where: The dotted key of `plain` in the whole configuration, for messages.
        describe: Turns a dotted key into a description for a person.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type or is out of range.
    """
    chosen: Any = cls
    given = dict(_mapping(plain, cls, where, describe))
    if cls in _CHOICES:
        key, words = _CHOICES[cls]
        name = given.get("name")
        word = given.pop(
            key, name if isinstance(name, str) and name in words else None
        )  # `moe: {...}` is of family moe unless it names another
        if not isinstance(word, str) or word not in words:
            near = nearest(str(word), words)
            raise ConfigError(f"{describe(_join(where, key))} is {shown(word)}; valid: {', '.join(words)}.{near}")
        chosen = words[word]
    hints = _hints(chosen)
    for key in given:
        if key not in hints:
            place, new = describe(_join(where, str(key)[:100])), _RENAMED.get(chosen, {}).get(str(key))
            if new is not None:
                raise ConfigError(f"{place} is now called {_join(where, new)}; rename the key, its values are the same")
            message = f"{place} is not a key here; valid: {', '.join(hints)}."
            raise ConfigError(message + nearest(str(key), hints))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(chosen):
        key = _join(where, field.name)
        if field.name in given:
            values[field.name] = _convert(hints[field.name], given[field.name], key, describe)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{describe(key)} is missing; it needs {_name(hints[field.name])}")
    try:
        return typing.cast(T, chosen(**values))
    except RangeError as error:
        raise ConfigError(f"{describe(_join(where, error.field))} {error.problem}") from None
    except ConfigError as error:
        place = describe(where) if where else ""
        raise ConfigError(f"{place}: {error}" if place else str(error)) from None


def _convert(kind: Any, value: Any, where: str, describe: Describe) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [argument for argument in arguments if argument is not type(None)]
        several = [option for option in options if typing.get_origin(option) is tuple]
        fitting = several if isinstance(value, list | tuple) else [one for one in options if one not in several]
        return _convert((fitting or options)[0], value, where, describe)
    if origin is tuple:
        return _convert_tuple(arguments[0], value, where, describe)
    if dataclasses.is_dataclass(kind):
        return from_plain(typing.cast(type, kind), value, where, describe)
    return _convert_scalar(kind, value, where, describe)


def _convert_tuple(element: Any, value: Any, where: str, describe: Describe) -> tuple[Any, ...]:
    if element in _KEYED and isinstance(value, Mapping):
        name, single = _KEYED[element]
        parts = []
        for key, item in value.items():
            if item is not None:  # null removes an entry: `families: {moe: null}`
                place = _join(where, str(key))
                keys = {single: item} if single is not None else _mapping(item, element, place, describe)
                parts.append(from_plain(element, {name: key, **keys}, place, describe))
        return tuple(parts)
    if isinstance(value, str) and element is str:
        value = [value]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{describe(where)} is {shown(value)}; it needs a list of {_name(element)}")
    return tuple(_convert(element, item, f"{where}[{i}]", describe) for i, item in enumerate(value))


def changed(value: T, changes: Mapping[str, Any], where: str) -> T:
    """Return a copy of the dataclass `value` with `changes`, given as plain values. Raises ConfigError."""
    hints: dict[str, Any] = _hints(typing.cast(Any, type(value)))
    for key in changes:
        if key not in hints:
            message = f"{where}: '{key}' is not a key of {type(value).__name__}; valid: {', '.join(hints)}."
            raise ConfigError(message + nearest(key, hints))
    typed = {key: _convert(hints[key], item, _join(where, key), str) for key, item in changes.items()}
    try:
        return typing.cast(T, dataclasses.replace(typing.cast(Any, value), **typed))
    except RangeError as error:
        raise ConfigError(f"{_join(where, error.field)} {error.problem}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _convert_scalar(kind: Any, value: Any, where: str, describe: Describe) -> Any:
    if kind is Any:
        return _frozen(value)
    converted = _scalar(kind, value)
    if converted is None:  # `describe` reads the YAML files again, so it is called only for an error
        raise ConfigError(f"{describe(where)} is {shown(value)}; it needs {_name(kind)}")
    return converted


def _scalar(kind: Any, value: Any) -> bool | int | float | str | None:
    """Return `value` as the bool, str, float or int that `kind` asks for, or None where it is none."""
    if kind in (bool, str):
        return value if isinstance(value, kind) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    except OverflowError:  # a whole number of more than 308 digits: the range of its field refuses it
        number = math.inf if int(value) > 0 else -math.inf
    if kind is float:
        return None if math.isnan(number) else number
    if isinstance(value, int):
        return value
    return int(number) if number.is_integer() else None


def _mapping(plain: Any, cls: type, where: str, describe: Describe) -> Mapping[str, Any]:
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{describe(where)} is {shown(plain)}; it needs keys and values ({cls.__name__})")
    return plain


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if kind in names:
        return names[kind]
    arguments = [argument for argument in typing.get_args(kind) if argument not in (type(None), Ellipsis)]
    if typing.get_origin(kind) is tuple:
        return f"a list of {_name(arguments[0])}"
    return _name(arguments[0]) if arguments else getattr(kind, "__name__", str(kind))
