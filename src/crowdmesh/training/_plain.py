"""Frozen dataclasses as values that JSON knows, and back; every name and type is checked, nothing is guessed."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from crowdmesh.errors import InputError


def to_plain(value: Any) -> Any:
    """A dataclass, also nested, as dictionaries; tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type, values: Any, where: str = "") -> Any:
    """The dataclass ``kind`` that :func:`to_plain` gave, also after a way through JSON.

    Every field must be there unless it has a default, and nothing else.

    Args:
        where: dotted name of the whole, for messages.

    Raises:
        InputError: unknown or missing names, values of another type, or values that the dataclass refuses.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where or kind.__name__} must be an object with names and values, got {values!r}")
    known = {field.name: field for field in fields(kind)}
    missing = [name for name, field in known.items() if name not in values and not _has_default(field)]
    unknown = [str(name) for name in values if name not in known]
    if missing or unknown:
        wrong = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise InputError(f"{where or kind.__name__} has the names {', '.join(known)}; {'; '.join(wrong)}")
    hints = get_type_hints(kind)
    return kind(**{name: converted(hints[name], value, _join(where, name)) for name, value in values.items()})


def converted(hint: Any, value: Any, where: str) -> Any:
    """A plain value as the type of an annotation.

    Raises:
        InputError: it is of another type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, where)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise InputError(f"{where} must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin is tuple or hint is tuple:
        return _tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be an object with names and values, got {value!r}")
        return {str(key): converted(arguments[1], item, _join(where, str(key))) for key, item in value.items()}
    return _scalar(hint, value, where)


def _one_of(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    others = [choice for choice in choices if choice is not type(None)]
    for choice in others[:-1]:
        try:
            return converted(choice, value, where)
        except InputError:
            continue
    return converted(others[-1], value, where)


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise InputError(f"{where} must be a list, got {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        kinds: tuple[Any, ...] = (arguments[0],) * len(value)
    else:
        kinds = arguments
    if len(kinds) != len(value):
        raise InputError(f"{where} must be a list of {len(kinds)} values, got {list(value)!r}")
    return tuple(converted(kind, item, f"{where}.{i}") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        words = {float: "a finite number", int: "a whole number", bool: "true or false", str: "a text"}
        raise InputError(f"{where} must be {words.get(hint, getattr(hint, '__name__', str(hint)))}, got {value!r}")
    return value


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
