"""``manifest.json``: which set a folder holds, how it was built, and how far."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crowdmesh._files import atomic_path, new_path, reading
from crowdmesh.errors import InputError
from crowdmesh.pgt.records import Outcome
from crowdmesh.pgt.schema import FORMAT, FORMAT_VERSION

MANIFEST = "manifest.json"

_WHAT = "manifest of a CrowdMesh set"
_SHOWN = 6  # differences in one message
_LONGEST = 60  # characters of a value in a message
_BEFORE = {"labels"}  # folders that a source may fill before a set is begun


@dataclass(frozen=True)
class Manifest:
    """What a set says of itself.

    Attributes:
        config: all that decides what is in it (:meth:`crowdmesh.pgt.job.Job.signature`). config_hash: its hash.
        licences: what a user must know about using its data and networks, one sentence each.
        planned: images in the plan. images, people: those in finished shards. shards: finished ones.
        counts: images per outcome, over the finished shards.
        complete: whether every image of the plan is in a finished shard.
        versions: of Python and of what the numbers depend on, where this was written.
    """

    config: dict[str, Any]
    config_hash: str
    licences: tuple[str, ...] = ()
    planned: int = 0
    images: int = 0
    people: int = 0
    shards: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    complete: bool = False
    versions: dict[str, str] = field(default_factory=lambda: _versions())

    @property
    def source(self) -> dict[str, Any]:
        """The source's part of the configuration."""
        return self.config["source"]

    @property
    def weights(self) -> dict[str, Any]:
        """Hashes of the networks' weights, per expert; empty where no experts were asked."""
        return (self.config["experts"] or {}).get("weights", {})


def _versions() -> dict[str, str]:
    packages = ("crowdmesh", "torch", "numpy", "pyarrow")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def hash_of(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration in canonical JSON: keys sorted, no spaces.

    Raises:
        InputError: it holds a number that JSON has not (NaN, infinity).
    """
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise InputError("the configuration holds NaN or infinity; give every option a finite number") from error
    return hashlib.sha256(text.encode()).hexdigest()


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations, one line per value: ``"dto.accept_below: 1.5 -> 2.0"``."""
    old, new = dict(_flat(there)), dict(_flat(asked))
    names = [*old, *(name for name in new if name not in old)]
    return [
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in names
        if (name in old) != (name in new) or old[name] != new[name]
    ]


def read_manifest(folder: Path) -> Manifest:
    """What a folder says it holds.

    Raises:
        InputError: no such folder, or no set in it. FormatError: a damaged manifest, or one of a newer format.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} holds no set (there is no {MANIFEST}); make one with crowdmesh build")
    with reading(path, _WHAT):
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if type(values["version"]) is not int or values["version"] > FORMAT_VERSION:
            raise ValueError(
                f"it has format {values['version']}, this CrowdMesh reads up to {FORMAT_VERSION}; update crowdmesh"
            )
        return _checked(values)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, in place of the one there.

    Raises:
        InputError: the folder cannot be written.
    """
    with atomic_path(Path(folder) / MANIFEST, durable=True) as temporary:
        _write(temporary, manifest)


def claim(folder: Path, manifest: Manifest) -> None:
    """Make a folder the set of this manifest, or see that it is already.

    Raises:
        InputError: the folder holds a set of another configuration, or something else.
        FormatError: it holds a damaged manifest.
    """
    check_folder(folder, manifest)
    if not (folder / MANIFEST).is_file():
        with new_path(folder / MANIFEST) as temporary:
            _write(temporary, manifest)
        check_folder(folder, manifest)  # another process may have been faster


def check_folder(folder: Path, manifest: Manifest) -> None:
    """See that a folder is the set of this manifest or could become it; raises as :func:`claim`."""
    path = folder / MANIFEST
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if path.is_file():
        found = read_manifest(folder)
        if found.config_hash != manifest.config_hash:
            raise InputError(_refusal(folder, differences(found.config, manifest.config)))
    elif any(name not in _BEFORE and not name.startswith(".") for name in names):
        raise InputError(f"{folder} is not empty and holds no set; choose a new or an empty folder")


def _refusal(folder: Path, differing: list[str]) -> str:
    shown = "; ".join(differing[:_SHOWN])
    if len(differing) > _SHOWN:
        shown += f"; and {len(differing) - _SHOWN} more"
    advice = "use the same arguments as before to go on with it, or choose another folder"
    if [line for line in differing if line.startswith("dto.accept_below:")] == differing:
        advice = (
            "for another threshold nothing need be built again: reports take --threshold, exports --export-threshold"
        )
    return f"{folder} holds a set that was built otherwise (there -> asked for: {shown}); {advice}"


def _write(path: Path, manifest: Manifest) -> None:
    values = {"format": FORMAT, "version": FORMAT_VERSION}
    values |= {entry.name: getattr(manifest, entry.name) for entry in fields(Manifest)}
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _checked(values: dict[str, Any]) -> Manifest:
    """The manifest in these values; ValueError or KeyError says what is wrong with them."""
    given = {entry.name: values[entry.name] for entry in fields(Manifest)}
    config, counts, licences = given["config"], given["counts"], given["licences"]
    if not isinstance(config, dict) or not isinstance(config.get("source"), dict) or "experts" not in config:
        raise ValueError("it has no configuration")
    if hash_of(config) != given["config_hash"]:
        raise ValueError("its configuration is not the one its hash belongs to")
    if not isinstance(counts, dict) or not isinstance(licences, list) or type(given["complete"]) is not bool:
        raise ValueError("its counts, licences or completeness are not what they should be")
    numbers = [given[name] for name in ("planned", "images", "people", "shards")]
    numbers += [counts[Outcome(name).value] for name in counts]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("its counts are no numbers")
    if not isinstance(given["versions"], dict):
        raise ValueError("its versions are not what they should be")
    return Manifest(**{**given, "licences": tuple(map(str, licences))})


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every value that is no object."""
    if not isinstance(values, Mapping) or not values:
        yield prefix, values
        return
    for name, value in values.items():
        yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "absent"
    text = json.dumps(values[name])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"
