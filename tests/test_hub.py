"""Models of the hub: downloaded from a stand-in for the hub on this machine, checked, kept, and refused when wrong."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crowdmesh.errors import AssetError
from crowdmesh.hub import RECORD, HubModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = b'{"model_type": "toy"}'
WEIGHTS = bytes(range(256)) * 8
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


class Hub:
    """What the stand-in serves; tests change it."""

    def __init__(self) -> None:
        self.commit = COMMIT
        self.content = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
        self.requests: list[str] = []
        git = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
        self.siblings = [
            {"rfilename": "config.json", "size": len(CONFIG), "blobId": git},
            {"rfilename": "model.safetensors", "size": len(WEIGHTS), "blobId": "?", "lfs": {"sha256": DIGEST}},
            {"rfilename": "README.md", "size": 3, "blobId": "?"},
        ]

    def answer(self, path: str) -> bytes | None:
        self.requests.append(path)
        if path.startswith("/api/models/org/toy/revision/"):
            return json.dumps({"sha": self.commit, "siblings": self.siblings}).encode()
        prefix = f"/org/toy/resolve/{self.commit}/"
        return self.content.get(path.removeprefix(prefix)) if path.startswith(prefix) else None


@pytest.fixture
def hub(tmp_path, monkeypatch):
    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.answer(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield served
    server.shutdown()
    server.server_close()


def toy(**changes) -> HubModel:
    return HubModel(**{"repo": "org/toy", "licence": "MIT", "size_bytes": 2048, "source": "a test", **changes})


def nothing_left(tmp_path) -> bool:
    return not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_model_is_downloaded_once_with_the_commit_it_came_from(hub, tmp_path):
    model = toy()
    assert model.find() is None and model.fingerprint() == ""
    folder = model.folder()
    assert folder == tmp_path / "cache" / "crowdmesh" / "hub" / "org--toy"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS and (folder / "config.json").read_bytes() == CONFIG
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", RECORD, "model.safetensors"]
    record = json.loads((folder / RECORD).read_text())
    assert (record["commit"], record["licence"], record["sha256"]["model.safetensors"]) == (COMMIT, "MIT", DIGEST)
    asked = len(hub.requests)
    assert model.folder() == folder and len(hub.requests) == asked
    assert model.fingerprint() == f"config.json:{hashlib.sha256(CONFIG).hexdigest()} model.safetensors:{DIGEST}"


def test_the_pinned_commit_is_asked_for_and_no_other_is_taken(hub, tmp_path):
    assert toy(revision=COMMIT, sha256=DIGEST).folder()
    assert COMMIT in hub.requests[0]
    other = "f" * 40
    with pytest.raises(AssetError, match=f"holds commit {COMMIT} instead of {other}"):
        toy(revision=other).folder()
    (tmp_path / "cache" / "crowdmesh" / "hub" / "org--toy" / "model.safetensors").unlink()
    with pytest.raises(AssetError, match=r"lacks model\.safetensors; delete it"):
        toy().folder()


def test_a_hub_that_answers_with_another_commit_is_refused(hub, tmp_path):
    with pytest.raises(AssetError, match="answers with commit '0123"):
        toy(revision="f" * 40).folder()
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[::-1]])
def test_a_wrong_download_is_refused_and_leaves_nothing_behind(hub, tmp_path, name, change):
    hub.content[name] = change(hub.content[name])
    with pytest.raises(AssetError, match="the download of http"):
        toy().folder()
    assert nothing_left(tmp_path)


def test_weights_with_another_digest_than_the_catalogue_says_are_not_even_downloaded(hub, tmp_path):
    with pytest.raises(AssetError, match=f"has SHA-256 {DIGEST} instead of {'0' * 64}"):
        toy(sha256="0" * 64).folder()
    assert nothing_left(tmp_path)


def test_damage_on_disk_is_noticed(hub):
    folder = toy().folder()
    (folder / "config.json").write_bytes(CONFIG.replace(b"toy", b"tow"))
    with pytest.raises(AssetError, match=r"has another config\.json than was downloaded; delete it"):
        toy().folder()


def test_folders_of_the_user_are_found_first(hub, tmp_path):
    own = tmp_path / "assets" / "hub" / "org--toy"
    own.mkdir(parents=True)
    with pytest.raises(AssetError, match=r"lacks config\.json and model\.safetensors"):
        toy().folder()
    (own / "config.json").write_bytes(CONFIG)
    (own / "model.safetensors").write_bytes(b"mine")
    assert toy().folder() == own and not hub.requests
    with pytest.raises(AssetError, match="instead of"):
        toy(sha256=DIGEST).folder()
    local = toy(local=own, sha256=DIGEST, revision=COMMIT)
    assert local.folder() == own and local.name == str(own)
    with pytest.raises(AssetError, match="does not exist"):
        toy(local=tmp_path / "nowhere").folder()


def test_offline_says_what_to_do(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AssetError, match=r"org/toy is not on this machine .* connect to the internet, or put") as error:
        toy().folder()
    assert str(tmp_path / "cache" / "crowdmesh" / "hub" / "org--toy") in str(error.value)
    assert nothing_left(tmp_path)


def test_a_repository_laid_out_otherwise(hub):
    hub.siblings = hub.siblings[:1]
    with pytest.raises(AssetError, match=r"org/toy has no file model\.safetensors at commit"):
        toy().folder()


def test_code_without_a_record_of_its_commit_is_not_taken(hub, tmp_path):
    own = tmp_path / "assets" / "hub" / "org--toy"
    own.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "modeling_toy.py"):
        (own / name).write_bytes(b"mine")
    coded = toy(files=("config.json", "modeling_toy.py", "model.safetensors"))
    with pytest.raises(AssetError, match=r"holds code and no crowdmesh\.json that says from which commit"):
        coded.folder()
    assert toy(files=coded.files, local=own).folder() == own


def test_a_damaged_record_is_a_defect_like_any_other(hub):
    folder = toy().folder()
    (folder / RECORD).write_text("{")
    assert "cannot be read" in toy().defect(folder)
    with pytest.raises(AssetError, match=r"crowdmesh\.json that cannot be read .*; delete it"):
        toy().folder()
