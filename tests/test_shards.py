"""Worlds on disk: what is read is what was made, whatever happened while it was written."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from crowdmesh.errors import FormatError, InputError
from crowdmesh.synth import _processes
from crowdmesh.synth._rows import DEPTH_ERROR, NEAREST_M, depth_codes, depths_m, pack, unpack
from crowdmesh.synth.config import PRESETS
from crowdmesh.synth.scene import SKY_DEPTH_M
from crowdmesh.synth.shards import MANIFEST, open_world, read_shards, write_shards
from crowdmesh.synth.world import World

TINY = replace(PRESETS["family"], image_sizes=((96, 64),), people=(1, 3))
WORLD = World(TINY, seed=11)


@pytest.fixture(scope="module")
def originals():
    return list(WORLD.scenes(range(5)))


@pytest.fixture
def folder(tmp_path, originals, monkeypatch):
    """A finished folder of five scenes in three shards."""
    monkeypatch.setattr(World, "scene", lambda self, index: originals[index])
    write_shards(WORLD, 5, tmp_path / "world", per_shard=2)
    return tmp_path / "world"


def assert_same(read, made):
    for field in fields(made.scene.people):
        one, two = getattr(read.scene.people, field.name), getattr(made.scene.people, field.name)
        if field.name == "masks":
            assert np.array_equal(one.runs, two.runs) and np.array_equal(one.offsets, two.offsets)
        else:
            assert np.array_equal(one, two) if isinstance(two, np.ndarray) else one == two, field.name
            assert not isinstance(two, np.ndarray) or one.dtype == two.dtype
    assert read.scene.camera == made.scene.camera
    assert read.scene.provenance == json.loads(json.dumps(made.scene.provenance))
    for name in ("labels", "visible_vertices", "silhouette_px", "ground"):
        assert np.array_equal(getattr(read, name), getattr(made, name)), name
    assert np.array_equal(read.scene.image, made.scene.image)
    for name in ("poses", "supports", "arrangement"):
        assert getattr(read, name) == getattr(made, name)
    assert len(read.props) == len(made.props)
    for one, two in zip(read.props, made.props, strict=True):
        assert one.kind == two.kind and np.array_equal(one.vertices_m, two.vertices_m)
        assert np.array_equal(one.faces, two.faces)
    np.testing.assert_allclose(read.depth.values, made.depth.values, rtol=1.01 * DEPTH_ERROR)


def test_scenes_come_back_in_order_and_exact(folder, originals):
    read = list(read_shards(folder))
    assert len(read) == 5
    for one, two in zip(read, originals, strict=True):
        assert_same(one, two)
    assert any(scene.props for scene in originals)
    assert open_world(folder).world == WORLD
    assert DEPTH_ERROR < 1e-3


def test_a_stopped_run_goes_on_where_it_was(tmp_path, originals, monkeypatch):
    made = []

    def stopping(_, index):
        if index == 3 and len(made) < 4:
            made.append(index)
            raise KeyboardInterrupt
        made.append(index)
        return originals[index]

    monkeypatch.setattr(World, "scene", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_shards(WORLD, 5, tmp_path, per_shard=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scenes-00000.parquet", "world.json"]
    with pytest.raises(InputError, match=r"2 of 3 shards are missing, first scenes-00001"):
        read_shards(tmp_path)
    leftover = tmp_path / ".scenes-00001.k1ll3d.parquet"  # as a killed process leaves it
    leftover.write_bytes(b"half")
    before, told, made = (tmp_path / "scenes-00000.parquet").stat(), [], [None] * 9
    write_shards(WORLD, 5, tmp_path, per_shard=2, progress=told.append)
    assert made[9:] == [2, 3, 4]
    assert told == [2, 1, 1, 1]
    after = (tmp_path / "scenes-00000.parquet").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert not leftover.exists()
    for one, two in zip(read_shards(tmp_path), originals, strict=True):
        assert_same(one, two)


def test_a_finished_folder_is_left_alone(folder, monkeypatch):
    monkeypatch.setattr(World, "scene", lambda *_: pytest.fail("nothing is left to do"))
    told = []
    write_shards(WORLD, 5, folder, per_shard=2, progress=told.append)
    assert told == [5]


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "another file"])
def test_a_damaged_shard_is_named_with_the_way_out(folder, damage):
    path = folder / "scenes-00001.parquet"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "changed":
        content[len(content) // 3 : len(content) // 3 + 40] = bytes(40)
    elif damage == "emptied":
        content = bytearray()
    else:
        content = bytearray((folder / "scenes-00002.parquet").read_bytes())
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"scenes-00001\.parquet is not a readable shard .*delete it and run"):
        list(read_shards(folder))
    if damage != "changed":  # found by reading alone
        with pytest.raises(FormatError, match=r"scenes-00001\.parquet is not a readable shard .*delete it and run"):
            write_shards(WORLD, 5, folder, per_shard=2)


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
    for other, scenes, per_shard, told in (
        (World(TINY, seed=12), 5, 2, "seed"),
        (World(replace(TINY, people=(1, 2)), seed=11), 5, 2, "config"),
        (WORLD, 6, 2, "scenes"),
        (WORLD, 5, 3, "per_shard"),
    ):
        with pytest.raises(InputError, match=rf"holds another world \({told} differ\)"):
            write_shards(other, scenes, folder, per_shard=per_shard)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="is not empty and holds no world"):
        write_shards(WORLD, 5, photos)
    with pytest.raises(InputError, match="holds no synthetic world"):
        read_shards(photos)
    with pytest.raises(InputError, match="workers must be at least 1"):
        write_shards(WORLD, 5, tmp_path / "new", workers=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "other"),
        ("version", 99),
        ("scenes", -1),
        ("config", {"peeple": 3}),
        ("seed", "x"),
        ("per_shard", None),
    ],
)
def test_a_damaged_manifest_is_refused(folder, key, value):
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {key: value}))
    with pytest.raises(FormatError, match=r"world\.json is not a readable manifest"):
        read_shards(folder)
    manifest.write_text("{")
    with pytest.raises(FormatError, match=r"world\.json is not a readable manifest"):
        read_shards(folder)


def test_a_shard_of_another_world_is_found_out(folder):
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"seed": 5}))
    with pytest.raises(FormatError, match="another world"):
        list(read_shards(folder))


@pytest.mark.slow
def test_several_processes_write_the_same(tmp_path, originals):
    told = []
    write_shards(WORLD, 5, tmp_path, per_shard=2, workers=2, progress=told.append)
    assert sum(told) == 5
    for one, two in zip(read_shards(tmp_path), originals, strict=True):
        assert_same(one, two)


def test_a_killed_process_is_told_in_one_sentence(tmp_path, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    class Dying:
        def __init__(self, *_, **__) -> None: ...

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None: ...

        def shutdown(self, **_) -> None: ...

        def submit(self, *_):
            from concurrent.futures import Future

            future = Future()
            future.set_exception(BrokenProcessPool("gone"))
            return future

    monkeypatch.setattr(_processes, "ProcessPoolExecutor", Dying)
    with pytest.raises(InputError, match="run the same again, with fewer workers"):
        write_shards(WORLD, 5, tmp_path, per_shard=2, workers=2)


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_packing_is_exact(values):
    assert np.array_equal(unpack(pack(values), values.shape), values)


@given(arrays(np.float64, (1, 30), elements=st.floats(NEAREST_M, SKY_DEPTH_M)))
def test_stored_depths_keep_their_promise(depth):
    back = depths_m(depth_codes(depth))
    assert (np.abs(back / depth - 1) <= DEPTH_ERROR + 1e-7).all()


def test_missing_depth_stays_missing():
    depth = np.array([[np.nan, np.inf, 0.0, -1.0, 2.0, 5000.0, 1e-4]])
    np.testing.assert_allclose(depths_m(depth_codes(depth)), [[0, 0, 0, 0, 2, SKY_DEPTH_M, NEAREST_M]], rtol=1e-4)
