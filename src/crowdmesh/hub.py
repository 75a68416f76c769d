"""Models on the Hugging Face hub as checked folders on this machine; nothing is loaded or run here.

A folder holds ``config.json``, ``model.safetensors`` and a record, ``crowdmesh.json``, that says of which commit they
are and what SHA-256 each has. It is looked for as ``FOLDER/hub/ORG--NAME`` in the asset folders, and otherwise
downloaded into the user cache: one commit, each file checked against the digest that the hub states for it there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crowdmesh.assets import TIMEOUT_S, Asset, cache_folder, digest_of, download, search_folders
from crowdmesh.errors import AssetError

RECORD = "crowdmesh.json"
WEIGHTS = "model.safetensors"

COMMIT = re.compile(r"[0-9a-f]{40}")
"""What a revision looks like that nobody can change afterwards."""

_GROUP = "hub"


@dataclass(frozen=True)
class HubModel:
    """One model repository of the hub.

    Attributes:
        repo: ``ORG/NAME``.
        licence: of the weights, as its model card states it.
        size_bytes: of the weights, about; ``None``: not known.
        source: what it is and who made it.
        revision: the commit it is pinned to; a name such as ``main`` means whatever that is at the time of the
            download, which the folder's record then keeps.
        sha256: of ``model.safetensors``; "" where it is not known, then it is what the hub says of the commit.
        files: what is downloaded.
        local: a folder of the user's to take instead.
    """

    repo: str
    licence: str
    size_bytes: int | None
    source: str
    revision: str = "main"
    sha256: str = ""
    files: tuple[str, ...] = ("config.json", WEIGHTS)
    local: Path | None = None

    @property
    def name(self) -> str:
        """What it is called in lists and provenance."""
        return self.repo if self.local is None else str(self.local)

    @property
    def pinned(self) -> bool:
        """Whether the revision names one commit for ever."""
        return COMMIT.fullmatch(self.revision) is not None

    def find(self) -> Path | None:
        """The first folder of that name, unchecked; ``None`` if there is none."""
        if self.local is not None:
            return self.local if self.local.is_dir() else None
        return next((f for folder in search_folders() if (f := folder / _GROUP / self._folder).is_dir()), None)

    def folder(self) -> Path:
        """A checked folder on this machine, downloaded (with a progress bar) if there is none.

        Raises:
            AssetError: a file is missing or damaged, or there is no folder and it cannot be downloaded.
        """
        path = self.find()
        if path is None:
            if self.local is not None:
                raise AssetError(
                    f"the model folder {self.local} does not exist; give one with {' and '.join(self.files)}"
                )
            return self._download(cache_folder() / _GROUP / self._folder)
        if problem := self.defect(path):
            raise AssetError(f"{path} {problem}; delete it (it is then downloaded again) or replace it")
        return path

    fetch = folder

    def defect(self, path: Path) -> str | None:
        """What is wrong with a folder, as a clause; a folder without a record is only checked for its files."""
        missing = [name for name in self.files if not (path / name).is_file()]
        if missing:
            return f"lacks {' and '.join(missing)}"
        if self.sha256 and self.local is None and (digest := digest_of(path / WEIGHTS)) != self.sha256:
            return f"has a {WEIGHTS} with SHA-256 {digest} instead of {self.sha256}"
        try:
            record = _read_record(path)
        except (OSError, ValueError, LookupError, TypeError) as error:
            return f"has a {RECORD} that cannot be read ({error})"
        if record is None:
            if self.local is None and any(name.endswith(".py") for name in self.files):
                return f"holds code and no {RECORD} that says from which commit it comes"
            return None
        if self.pinned and self.local is None and record["commit"] != self.revision:
            return f"holds commit {record['commit']} instead of {self.revision}"
        for name, digest in record["sha256"].items():
            if not (path / name).is_file() or digest_of(path / name) != digest:
                return f"has another {name} than was downloaded"
        return None

    def remedy(self) -> str:
        """How to get it, as a clause for tables."""
        size = f"{self.size_bytes / 1e6:.0f} MB" if self.size_bytes else "of unknown size"
        home = search_folders()[-1] / _GROUP / self._folder
        return f"downloaded on first use from {_endpoint()}/{self.repo} ({size}); offline: put its files into {home}"

    def fingerprint(self) -> str:
        """SHA-256 of each file that is used here; "" where there are none."""
        path = self.find()
        here = [name for name in self.files if path is not None and (path / name).is_file()]
        return " ".join(f"{name}:{digest_of(path / name)}" for name in here if path is not None)

    @property
    def _folder(self) -> str:
        return self.repo.replace("/", "--")

    def _download(self, target: Path) -> Path:
        """All files of one commit into a folder beside the target, then in one step to the target."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        except OSError as error:
            raise AssetError(f"cannot store {self.repo} in the user cache: {error.strerror}") from error
        try:
            commit, entries = self._listing()
            for name in self.files:
                _fetch_file(self, commit, name, entries, temporary / name)
            digests = {name: digest_of(temporary / name) for name in self.files}
            record = {"repo": self.repo, "commit": commit, "licence": self.licence, "sha256": digests}
            (temporary / RECORD).write_text(json.dumps(record, indent=1), "utf-8")
            temporary.chmod(0o755)
            temporary.rename(target)
        except OSError as error:
            if target.is_dir() and self.defect(target) is None:  # another process was faster
                return target
            raise AssetError(f"cannot store {self.repo} in {target}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def _listing(self) -> tuple[str, dict[str, dict[str, Any]]]:
        """The commit that the revision means, and what the hub says of each file in it."""
        url = f"{_endpoint()}/api/models/{self.repo}/revision/{quote(self.revision, safe='')}?blobs=true"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                told = json.load(response)
            commit, entries = told["sha"], {entry["rfilename"]: entry for entry in told["siblings"]}
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            home = cache_folder() / _GROUP / self._folder
            raise AssetError(
                f"{self.repo} is not on this machine and {url} gives no list of its files ({reason}); connect to the "
                f"internet, or put {' and '.join(self.files)} into {home}"
            ) from error
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit) or (self.pinned and commit != self.revision):
            raise AssetError(f"{url} answers with commit {commit!r} instead of {self.revision}; try again later")
        return commit, entries


def _fetch_file(model: HubModel, commit: str, name: str, entries: dict[str, dict[str, Any]], target: Path) -> None:
    """One file of a commit, checked against what the hub lists: SHA-256 of large files, git's digest of small ones."""
    entry = entries.get(name)
    if entry is None:
        raise AssetError(f"{model.repo} has no file {name} at commit {commit}; it is not laid out as expected")
    url = f"{_endpoint()}/{model.repo}/resolve/{commit}/{quote(name)}"
    large, size = entry.get("lfs"), int(entry.get("size") or 0)
    if large:
        if name == WEIGHTS and model.sha256 not in ("", large["sha256"]):
            raise AssetError(f"{url} has SHA-256 {large['sha256']} instead of {model.sha256}; it is another file")
        download(Asset(name, url, large["sha256"], size, model.licence, model.source, _GROUP), target)
        return
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content = response.read(size + 1)
    except (OSError, HTTPException) as error:
        raise AssetError(f"downloading {url} failed ({error}); try again later") from error
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if digest != entry.get("blobId"):
        raise AssetError(
            f"the download of {url} has git digest {digest} instead of {entry.get('blobId')}; try again later"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _endpoint() -> str:
    """The hub, or the mirror named by ``HF_ENDPOINT``."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _read_record(folder: Path) -> dict[str, Any] | None:
    """What was written down at the download, ``None`` where nothing was; the parsers' errors for a damaged one."""
    if not (folder / RECORD).exists():
        return None
    record = json.loads((folder / RECORD).read_text("utf-8"))
    return {"commit": str(record["commit"]), "sha256": dict(record["sha256"])}
