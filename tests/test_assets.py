"""Finding, downloading and checking assets; downloads come from file:// addresses, so no network is touched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from crowdmesh.assets import LITE, Asset, cache_folder, search_folders
from crowdmesh.errors import AssetError

CONTENT = b"weights of a very small network"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two asset folders and a cache, all empty."""
    first, second, cache = tmp_path / "first", tmp_path / "second", tmp_path / "cache"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("CROWDMESH_ASSETS", f"{first}{os.pathsep}{second}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return first, second, cache / "crowdmesh"


@pytest.fixture
def server(tmp_path) -> Path:
    """The file that the asset's address points to."""
    path = tmp_path / "server" / "net.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def asset(server) -> Asset:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Asset("net.bin", server.as_uri(), digest, len(CONTENT), "CC0-1.0", "a test", "toys")


def test_folders_are_searched_in_order_plain_or_by_group(folders, asset):
    first, second, cache = folders
    assert search_folders() == [first, second, cache]
    places = [first / "net.bin", first / "toys" / "net.bin", second / "net.bin", cache / "toys" / "net.bin"]
    assert asset.find() is None
    for place in reversed(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENT)
        assert asset.find() == place


def test_without_environment_only_the_cache_is_searched(monkeypatch, tmp_path):
    monkeypatch.delenv("CROWDMESH_ASSETS", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert search_folders() == [tmp_path / ".cache" / "crowdmesh"] == [cache_folder()]


def test_a_missing_asset_is_downloaded_into_the_cache_once(folders, asset, server):
    path = asset.fetch()
    assert path == folders[2] / "toys" / "net.bin"
    assert path.read_bytes() == CONTENT
    server.unlink()
    assert asset.fetch() == path


def test_offline_and_missing_says_what_where_and_what_to_do(folders, asset, server):
    server.unlink()
    with pytest.raises(AssetError) as error:
        asset.fetch()
    message = str(error.value)
    assert all(part in message for part in ("net.bin", asset.url, *map(str, folders), "CROWDMESH_ASSETS"))
    assert not list(folders[2].rglob("*.bin"))


@pytest.mark.parametrize("served", [CONTENT[:-1], CONTENT + b"x", CONTENT[::-1], b""])
def test_a_wrong_download_is_refused_and_leaves_nothing_behind(folders, asset, server, served):
    server.write_bytes(served)
    with pytest.raises(AssetError, match="instead of"):
        asset.fetch()
    assert [path for path in folders[2].rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("content", "problem"), [(CONTENT[:5], "has 5 bytes instead of 31"), (CONTENT[::-1], "instead of [0-9a-f]{64} ")]
)
def test_a_damaged_file_is_named_and_never_silently_replaced(folders, asset, content, problem):
    path = folders[1] / "net.bin"
    path.write_bytes(content)
    with pytest.raises(AssetError, match=problem) as error:
        asset.fetch()
    assert str(path) in str(error.value)
    assert "delete it" in str(error.value)
    assert path.read_bytes() == content


def test_a_file_is_hashed_once_until_it_changes(folders, asset, monkeypatch):
    path = folders[0] / "net.bin"
    path.write_bytes(CONTENT)
    asset.fetch()
    with monkeypatch.context() as context:
        context.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        assert asset.fetch() == path
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(1, 1))
    with pytest.raises(AssetError, match="SHA-256"):
        asset.fetch()


def test_an_unwritable_cache_is_an_asset_error(monkeypatch, tmp_path, asset):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.delenv("CROWDMESH_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(AssetError, match="cannot store net"):
        asset.fetch()


def test_the_catalogue_is_pinned_and_complete():
    assert len({asset.name for asset in LITE}) == len(LITE) == 7
    for asset in LITE:
        owner_repo_commit = asset.url.removeprefix("https://raw.githubusercontent.com/").split("/")[:3]
        assert len(owner_repo_commit[2]) == 40, "an address must be pinned to a commit"
        assert len(asset.sha256) == 64
        assert asset.licence and asset.source


@pytest.mark.parametrize("asset", LITE, ids=lambda asset: asset.name)
def test_local_copies_are_what_the_catalogue_says(asset):
    if asset.find() is None:
        pytest.skip(f"{asset.name} is not on this machine; put it into a folder named by CROWDMESH_ASSETS")
    assert asset.fetch().stat().st_size == asset.size_bytes
