"""Changes to a configuration by name: ``loss.fov=0.5`` from the command line, or an object from a JSON file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from crowdmesh._files import reading
from crowdmesh.errors import InputError
from crowdmesh.training.config import TrainConfig

_FIXED = ("stage",)  # the command names it
_OTHER_LENGTH = {"run.steps": "epochs", "run.epochs": "steps"}


def changed(config: TrainConfig, settings: Iterable[str] = (), file: Path | None = None) -> TrainConfig:
    """A configuration with a file's values in place of its own, then with those of single settings.

    Of ``run.steps`` and ``run.epochs`` the one that is given last counts, and the other is taken back.

    Args:
        settings: ``NAME=VALUE``, the name with dots between its parts (``loss.fov``, ``data.0.weight``), the value as
            JSON; what is not JSON is a text.
        file: a JSON object with some or all of the configuration's names, nested as in ``to_dict``. Lists replace the
            whole list.

    Raises:
        InputError: a name that does not exist (the message suggests one that does), a value of the wrong kind, or
            values that make no sense together.
    """
    values = config.to_dict()
    if file is not None:
        given = list(_leaves(_read(file), values))
        for name, value in given:
            if not (name in _FIXED and value == values[name]):
                _set(values, name, value, str(file))
        lengths = {name for name, value in given if name in _OTHER_LENGTH and value is not None}
        if len(lengths) == 1:  # a file that gives both is asked which it means
            _other_length_away(values, lengths.pop())
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise InputError(f"a setting is NAME=VALUE, for example optimiser.lr=1e-4, got {setting!r}")
        name, value = name.strip(), _value(text.strip())
        _set(values, name, value, f"--set {setting}")
        if value is not None:
            _other_length_away(values, name)
    return TrainConfig.from_dict(values)


def names(values: Any, before: str = "") -> Iterator[str]:
    """Dotted names of all single values of a configuration's ``to_dict``."""
    if isinstance(values, Mapping):
        pairs: Iterable[tuple[Any, Any]] = values.items()
    elif isinstance(values, list) and any(isinstance(item, Mapping) for item in values):
        pairs = enumerate(values)
    else:
        yield before
        return
    for key, value in pairs:
        yield from names(value, f"{before}.{key}" if before else str(key))


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise InputError(f"there is no file {file}; give a JSON file with names of the configuration and their values")
    with reading(file, "JSON file"):
        given = json.loads(file.read_text("utf-8"))
    if not isinstance(given, Mapping):
        raise InputError(f"{file} must hold a JSON object with names of the configuration and their values")
    return given


def _other_length_away(values: dict[str, Any], name: str) -> None:
    """A run is as long as steps or epochs say: who gives one of them need not take the other back."""
    if name in _OTHER_LENGTH and isinstance(values["run"], dict):
        values["run"][_OTHER_LENGTH[name]] = None


def _leaves(given: Mapping[str, Any], values: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested object, as deep as the configuration is nested."""
    for key, value in given.items():
        name = f"{before}.{key}" if before else str(key)
        inner = values.get(key) if isinstance(values, Mapping) else None
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            yield from _leaves(value, inner, name)
        else:
            yield name, value


def _set(values: dict[str, Any], name: str, value: Any, source: str) -> None:
    if name in _FIXED:
        raise InputError(f"{source}: {name} cannot be set; the command names it")
    place: Any = values
    *way, last = name.split(".")
    for part in way:
        place = _inner(place, part)
    if isinstance(place, dict) and last in place:
        place[last] = value
    elif isinstance(place, list) and _inner(place, last) is not None:
        place[int(last)] = value
    else:
        raise InputError(_no_such(name, values, source))


def _inner(place: Any, part: str) -> Any:
    if isinstance(place, dict):
        return place.get(part)
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return place[int(part)]
    return None


def _no_such(name: str, values: dict[str, Any], source: str) -> str:
    """What to say of a name that does not exist: the likeliest ones meant, and what there is beside it."""
    known = list(names(values))
    close = difflib.get_close_matches(name, known, 3, 0.8)
    if not close:  # the right name in the wrong place
        ends = {other.rsplit(".", 1)[-1]: other for other in reversed(known)}
        close = [ends[end] for end in difflib.get_close_matches(name.rsplit(".", 1)[-1], ends, 3, 0.7)]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    *way, _ = name.split(".")
    place: Any = values
    for depth, part in enumerate(way):
        inner = _inner(place, part)
        if not isinstance(inner, dict | list):
            way = way[:depth]
            break
        place = inner
    beside = list(place) if isinstance(place, dict) else [str(i) for i in range(len(place))]
    where = f"{'.'.join(way)} has" if way else "the configuration has"
    return f"{source}: there is no {name}; {hint}{where} {', '.join(beside)}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
