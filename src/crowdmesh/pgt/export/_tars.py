"""One tar shard: what it shall hold, what is known of a finished one, and writing it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from crowdmesh._files import atomic_path, reading, writing
from crowdmesh._weights_file import SUFFIX
from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt.export._naming import member_name
from crowdmesh.pgt.export._photographs import CHANGED, MISSING, Absent, Expected, Photograph
from crowdmesh.pgt.records import Entry

_FORMAT, _FORMAT_VERSION = "crowdmesh-tar", 1
_WHAT = "record of a tar shard"

CHANGED_MEANWHILE = "the set changed while it was packed; pack it again when nobody builds it"


@dataclass(frozen=True)
class TarPlan:
    """One tar shard that the set asks for.

    Attributes:
        stem: of its files. digest: of everything it shall hold. images: how many.
    """

    dataset: str
    stem: str
    digest: str
    images: int


class Digest:
    """Of what a tar shall hold, image by image."""

    def __init__(self, packing: dict[str, Any]) -> None:
        self._hash = hashlib.sha256(json.dumps(packing, sort_keys=True).encode())
        self.images = 0

    def add(self, *values: object) -> None:
        """One image: all that tells it from others in the set."""
        self._hash.update(json.dumps(values).encode() + b"\n")
        self.images += 1

    def text(self) -> str:
        """The digest."""
        return self._hash.hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """An image that a tar shall hold and does not.

    Attributes:
        entry: in the set's plan. expected: the photograph that was looked for. reason: ``missing`` or ``changed``.
        detail: one sentence.
    """

    entry: Entry
    expected: Expected
    reason: str
    detail: str


@dataclass(frozen=True)
class TarRecord:
    """What is known of a finished tar; ``STEM.json`` beside it holds this and the images that were left out.

    Attributes:
        digest: as in :class:`TarPlan`. images, people: in the tar. missing, changed: images that were left out.
        size_bytes: of the tar.
    """

    digest: str
    images: int
    people: int
    missing: int
    changed: int
    size_bytes: int


def tar_path(folder: Path, stem: str) -> Path:
    """File of a tar."""
    return folder / f"{stem}.tar"


def record_path(folder: Path, stem: str) -> Path:
    """File of what is known of a tar; a tar is finished when this file is there."""
    return folder / f"{stem}.json"


def finished(folder: Path, plan: TarPlan) -> TarRecord | None:
    """The record of a tar that is there and holds what the set asks for.

    ``None``: it must be packed. A record that cannot be read counts as none, since packing again mends it.
    """
    path, tar = record_path(folder, plan.stem), tar_path(folder, plan.stem)
    if not path.is_file() or not tar.is_file():
        return None
    try:
        with reading(path, _WHAT):
            record = TarRecord(**_values(path)["record"])
    except FormatError:
        return None
    return record if record.digest == plan.digest and record.size_bytes == tar.stat().st_size else None


def is_record(path: Path) -> bool:
    """Whether a JSON file says that it is the record of a tar."""
    try:
        with reading(path, _WHAT):
            _values(path)
    except FormatError:
        return False
    return True


def left_out(folder: Path, stem: str) -> list[LeftOut]:
    """The images that a finished tar does not hold.

    Raises:
        FormatError: a damaged record.
    """
    path = record_path(folder, stem)
    with reading(path, _WHAT):
        return [
            LeftOut(Entry(**left["entry"]), Expected(**left["expected"]), left["reason"], left["detail"])
            for left in _values(path)["left_out"]
        ]


def _values(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text("utf-8"))
    if values["format"] != _FORMAT or values["version"] != _FORMAT_VERSION:
        raise ValueError(f"it is not of the format {_FORMAT}, version {_FORMAT_VERSION}")
    return values


def discard(folder: Path, stem: str) -> None:
    """Delete a tar and its record."""
    record_path(folder, stem).unlink(missing_ok=True)
    tar_path(folder, stem).unlink(missing_ok=True)


class TarWriter:
    """Writes one tar and, when the block succeeds, its record; the same images make the same bytes.

    ``with TarWriter(folder, plan) as writer: writer.add(...)``; after the block, ``writer.record`` says what was
    written. After an exception nothing is left.
    """

    record: TarRecord

    def __init__(self, folder: Path, plan: TarPlan) -> None:
        self._folder, self.plan = folder, plan
        self._images = self._people = 0
        self._left_out: list[LeftOut] = []
        self._stack = ExitStack()

    @property
    def met(self) -> int:
        """Images that were dealt with so far."""
        return self._images + len(self._left_out)

    def __enter__(self) -> TarWriter:
        path = tar_path(self._folder, self.plan.stem)
        record_path(self._folder, self.plan.stem).unlink(missing_ok=True)
        self._temporary = self._stack.enter_context(atomic_path(path, durable=True))
        self._tar = self._stack.enter_context(tarfile.open(self._temporary, "w", format=tarfile.USTAR_FORMAT))
        return self

    def add(self, key: str, photograph: Photograph, people: bytes, count: int) -> None:
        """One image and the content of the file that tells of its people."""
        name = member_name(key)
        with writing(tar_path(self._folder, self.plan.stem)):
            self._member(f"{name}.{photograph.suffix}", photograph.content)
            self._member(f"{name}{SUFFIX}", people)
        self._images += 1
        self._people += count

    def leave_out(self, entry: Entry, expected: Expected, absent: Absent) -> None:
        """One image that cannot be packed."""
        self._left_out.append(LeftOut(entry, expected, absent.reason, absent.detail))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if error is None:
            reasons = [left.reason for left in self._left_out]
            size = tar_path(self._folder, self.plan.stem).stat().st_size
            missing, changed = reasons.count(MISSING), reasons.count(CHANGED)
            self.record = TarRecord(self.plan.digest, self._images, self._people, missing, changed, size)
            content = {"format": _FORMAT, "version": _FORMAT_VERSION, "record": asdict(self.record)}
            content["left_out"] = [asdict(left) for left in self._left_out]
            with atomic_path(record_path(self._folder, self.plan.stem), durable=True) as temporary:
                temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # times and owners are 0
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))


class OpenTars:
    """The tars that are being written: one a data set. After an exception nothing is left of those not yet full.

    Attributes:
        records: of those that were finished.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, tuple[ExitStack, TarWriter]] = {}
        self.records: dict[str, TarRecord] = {}

    def __enter__(self) -> OpenTars:
        return self

    def writer(self, plan: TarPlan) -> TarWriter:
        """The writer of a tar, opened if need be."""
        if plan.dataset not in self._open:
            stack = ExitStack()
            self._open[plan.dataset] = stack, stack.enter_context(TarWriter(self._folder, plan))
        return self._open[plan.dataset][1]

    def close_full(self, plan: TarPlan) -> None:
        """Finish a tar that has met all its images."""
        stack, writer = self._open[plan.dataset]
        if writer.met == plan.images:
            del self._open[plan.dataset]
            stack.close()
            self.records[plan.stem] = writer.record

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        everything = ExitStack()
        for stack, _ in self._open.values():
            everything.push(stack)
        if error is None and self._open:
            with everything:
                raise InputError(CHANGED_MEANWHILE)
        everything.__exit__(kind, error, trace)
