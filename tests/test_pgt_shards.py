"""Shards of a set: written whole or not at all, and nothing damaged is ever taken for good."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _pgt_made_up import assert_same, failure, image

from crowdmesh import _files
from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt import shards
from crowdmesh.pgt.reading import open_set
from crowdmesh.pgt.records import Outcome
from crowdmesh.pgt.shards import ShardWriter, check_shard, people_path, scenes_path, survey, sweep

IMAGES = [image(1), failure(2), image(3, 2), image(4, 0, outcome=Outcome.NOBODY, label_rows=None)]
MEND = "run crowdmesh build with the same arguments and --verify to build it again"


def write(folder, shard=0, made=None, config="hash", at_once=10):
    made = IMAGES if made is None else made
    with ShardWriter(folder, shard, config) as writer:
        for start in range(0, len(made), at_once):
            writer.add(made[start : start + at_once])
    return writer.summary


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "shards").iterdir())


def test_a_shard_says_what_it_holds(tmp_path):
    summary = write(tmp_path, 7)
    assert (summary.shard, summary.scenes, summary.people, summary.config_hash) == (7, 4, 5, "hash")
    assert summary.counts == {"accepted": 2, "nobody": 1, "image_missing": 1} and summary.seconds >= 0
    assert names(tmp_path) == ["people-00007.parquet", "scenes-00007.parquet"]
    assert check_shard(tmp_path, 7, "hash") == check_shard(tmp_path, 7, "hash", deep=True) == summary


@pytest.mark.parametrize("at_once", [1, 3])
def test_files_do_not_depend_on_how_many_are_added_at_once(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(shards, "_IMAGES_AT_ONCE", 2)
    made = [image(seed, seed % 4) for seed in range(11)]
    for folder, number in ((tmp_path / "one", 11), (tmp_path / "two", at_once)):
        write(folder, made=made, at_once=number)
    one, two = (people_path(tmp_path / name, 0).read_bytes() for name in ("one", "two"))
    assert one == two
    one, two = (pq.ParquetFile(scenes_path(tmp_path / name, 0)) for name in ("one", "two"))
    assert one.read().equals(two.read()) and one.num_row_groups == two.num_row_groups == 3
    for read, built in zip(open_set(tmp_path / "two").images(), made, strict=True):
        assert_same(read, replace(built, label_rows=built.label_rows if len(built.origins) else None))


def test_after_an_exception_nothing_is_left(tmp_path):
    for error in (PermissionError(13, "elsewhere"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            fail(tmp_path, error)
        assert caught.value is error and names(tmp_path) == []


def fail(folder: Path, error: BaseException) -> None:
    with ShardWriter(folder, 0, "hash") as writer:
        writer.add(IMAGES[:1])
        raise error


def test_an_exception_leaves_the_earlier_shard(tmp_path):
    write(tmp_path)
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path, ZeroDivisionError())
    assert check_shard(tmp_path, 0, "hash", deep=True).scenes == 4


def test_people_whom_the_columns_cannot_hold_stop_the_shard(tmp_path):
    with pytest.raises(InputError, match="differ in size"), ShardWriter(tmp_path, 0, "hash") as writer:
        writer.add([replace(IMAGES[0], file=replace(IMAGES[0].file, width=3))])
    assert names(tmp_path) == []


@pytest.mark.parametrize("when", ["people", "scenes"])
@pytest.mark.parametrize("rewritten", [False, True])
def test_a_half_committed_shard_is_no_shard(tmp_path, monkeypatch, when, rewritten):
    if rewritten:
        write(tmp_path, made=IMAGES[:3])
    real = Path.replace

    def dying(self, target):
        if Path(target).name.startswith(when):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    monkeypatch.undo()
    assert survey(tmp_path, [0], "hash").missing == [0]
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    write(tmp_path)
    assert survey(tmp_path, [0], "hash").committed[0].scenes == 4


def test_survey_tells_shards_apart(tmp_path):
    for shard, config in ((0, "hash"), (1, "hash"), (3, "other")):
        write(tmp_path, shard, config=config)
    truncate(people_path(tmp_path, 1))
    found = survey(tmp_path, range(5), "hash")
    assert [summary.shard for summary in found.committed] == [0]
    assert list(found.damaged) == [1] and MEND in found.damaged[1] and "people-00001" in found.damaged[1]
    assert found.foreign == [3] and found.missing == [2, 4]
    with pytest.raises(FormatError, match="another configuration"):
        check_shard(tmp_path, 3, "hash")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def flip(path: Path) -> None:
    """One bit in the middle of the rows."""
    data = bytearray(path.read_bytes())
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[end // 2] ^= 16
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_text(path: Path) -> None:
    path.write_bytes(b"not a table" * 50)


def other_table(path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), path)


DAMAGES = {
    "truncated": (truncate, False),
    "flipped": (flip, True),
    "empty": (empty, False),
    "another file": (other_text, False),
    "another table": (other_table, False),
    "gone": (Path.unlink, False),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [scenes_path, people_path])
def test_damage_is_one_sentence(tmp_path, damage, which):
    write(tmp_path, made=IMAGES * 20)
    spoil, deep = DAMAGES[damage]
    spoil(which(tmp_path, 0))
    with pytest.raises(FormatError) as caught:
        check_shard(tmp_path, 0, "hash", deep)
    message = str(caught.value)
    assert which(tmp_path, 0).name in message and message.endswith(MEND) and "\n" not in message
    if damage == "gone" and which is scenes_path:
        return
    with pytest.raises(FormatError):
        list(open_set(tmp_path).images())


def forge(path: Path, footer: dict | None = None, **columns) -> None:
    """The file again with other columns or another footer."""
    table = pq.read_table(path)
    metadata = pq.ParquetFile(path).metadata.metadata
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.column_names.index(name), field, pa.array(values, field.type))
    pairs = {key.decode(): value.decode() for key, value in metadata.items() if not key.startswith(b"ARROW")}
    if footer is not None:
        pairs["shard"] = json.dumps(json.loads(pairs["shard"]) | footer)
    pq.write_table(table.replace_schema_metadata(pairs), path)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"people": [3, 0, 9, 0]}, "fewer people"),
        ({"key": ["a", "b", "c", "d"]}, "those of another image"),
        ({"outcome": ["accepted", "", "accepted", "nobody"]}, "is not a valid Outcome"),
        ({"pose_joints": [7, None, 104, 104]}, "cannot reshape"),
        ({"fx": [-1.0, None, 400.0, 400.0]}, "focal length"),
        ({"body": [None, None, "anny", "anny"]}, None),
    ],
)
def test_crafted_rows_are_one_sentence_or_read(tmp_path, columns, reason):
    write(tmp_path)
    forge(scenes_path(tmp_path, 0), **columns)
    if reason is None:
        assert next(open_set(tmp_path).images()).after is None
        return
    with pytest.raises(FormatError, match=reason) as caught:
        list(open_set(tmp_path).images())
    assert "\n" not in str(caught.value) and str(caught.value).endswith(MEND)


@pytest.mark.parametrize("column", [{"status": ["flying"] * 5}, {"stature_m": [-1.0] * 5}])
def test_crafted_people_are_one_sentence(tmp_path, column):
    write(tmp_path)
    forge(people_path(tmp_path, 0), **column)
    people = people_path(tmp_path, 0)
    told = {"people_bytes": people.stat().st_size, "people_footer": shards._footer_hash(people)}
    forge(scenes_path(tmp_path, 0), told)
    with pytest.raises(FormatError, match=r"flying|stature"):
        list(open_set(tmp_path).images())


@pytest.mark.parametrize(
    "footer",
    [
        {"counts": {"accepted": 3}},
        {"counts": {"splendid": 4}},
        {"scenes": True},
        {"people": "5"},
        {"shard": 1},
        {"counts": None},
        {"config_hash": 3},
        {"people_bytes": -1},
    ],
)
def test_crafted_footers_are_one_sentence(tmp_path, footer):
    write(tmp_path)
    forge(scenes_path(tmp_path, 0), footer)
    with pytest.raises(FormatError, match="is not a readable shard of a set"):
        check_shard(tmp_path, 0, "hash")


def test_a_newer_format_asks_for_an_update(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "FORMAT_VERSION", 2)
    write(tmp_path)
    monkeypatch.undo()
    with pytest.raises(FormatError, match="reads up to 1; update crowdmesh"):
        check_shard(tmp_path, 0, "hash")


def test_people_of_another_shard_are_refused(tmp_path):
    write(tmp_path, 0)
    write(tmp_path, 1)
    people_path(tmp_path, 1).replace(people_path(tmp_path, 0))
    with pytest.raises(FormatError, match="another shard"):
        check_shard(tmp_path, 0, "hash")


def test_people_of_another_writer_of_the_same_shard_are_refused(tmp_path):
    """Two processes build one shard, and a network rounds otherwise on one of them."""
    one, other = (tmp_path / name for name in ("one", "other"))
    taller = replace(
        IMAGES[0].after, people=replace(IMAGES[0].after.people, stature_m=IMAGES[0].after.people.stature_m * 1.5)
    )
    write(one)
    write(other, made=[replace(IMAGES[0], after=taller), *IMAGES[1:]])
    people_path(other, 0).replace(people_path(one, 0))
    with pytest.raises(FormatError, match=r"has not the size|not written together"):
        check_shard(one, 0, "hash")


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "stale"), OSError(errno.EACCES, "denied"), MemoryError()])
def test_what_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, error):
    write(tmp_path)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(shards.pq, "ParquetFile", refuse)
    with pytest.raises(InputError, match=r"cannot read .*scenes-00000.parquet.* run the same again"):
        survey(tmp_path, range(1), "hash")


def test_sweeping_takes_what_the_dead_left_and_nothing_else(tmp_path):
    write(tmp_path)
    child = """
import os, sys
sys.path.insert(0, "tests")
from pathlib import Path
from crowdmesh._files import atomic_path
with atomic_path(Path(sys.argv[1]) / "shards" / "scenes-00001.parquet", durable=True):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", child, str(tmp_path)]).returncode == -9
    (left,) = [name for name in names(tmp_path) if name.startswith(".")]
    with ShardWriter(tmp_path, 2, "hash") as writer:
        living = set(names(tmp_path)) - {left}
        assert sweep(tmp_path) == 1 and set(names(tmp_path)) == living
        writer.add(IMAGES)
    assert sweep(tmp_path) == 0 and survey(tmp_path, [0, 1, 2], "hash").missing == [1]
    assert sweep(tmp_path / "nowhere") == 0


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(self, rows):
        raise OSError(28, "Error writing bytes to file. Detail: [errno 28] No space left on device")

    monkeypatch.setattr(shards._Rows, "_write", full)
    with pytest.raises(InputError, match=r"cannot write .*scenes-00000\.parquet: No space left on device; free"):
        write(tmp_path)
    assert names(tmp_path) == []


def test_a_set_is_read_by_columns_threshold_and_key(tmp_path):
    made = [image(1, outcome=Outcome.SCORE_TOO_HIGH), failure(2), image(3, 2), image(4, 5, placed=False)]
    write(tmp_path, 1, made[:2])
    write(tmp_path, 4, made[2:])
    read = open_set(tmp_path)
    assert [summary.shard for summary in read.shards] == [1, 4] and read.config_hash == "hash"
    batches = list(read.people_batches(["person", "key"]))
    assert [batch.schema.names for batch in batches] == [["person", "key"]] * 2
    assert pa.Table.from_batches(batches)["person"].to_pylist() == [0, 1, 2, 0, 1, 0, 1, 2, 3, 4]
    assert sum(len(batch) for batch in read.scene_batches()) == 4
    assert [scene.key for scene in read.images(accepted_only=True)] == [made[2].entry.key, made[3].entry.key]
    everything = list(read.images(threshold=9.0))
    assert [scene.outcome.accepted for scene in everything] == [True, False, True, True]
    assert [scene.key for scene in read.images(0.0, accepted_only=True)] == [made[3].entry.key]
    for built in made:
        assert_same(read.image(built.entry.key), built)
    with pytest.raises(InputError, match="no image 'nobody'"):
        read.image("nobody")
    with pytest.raises(InputError, match="no column 'depth'"):
        read.scene_batches(["key", "depth"])


def test_a_set_of_two_configurations_is_none(tmp_path):
    with pytest.raises(InputError, match="holds no shard of a set"):
        open_set(tmp_path)
    write(tmp_path, 0)
    write(tmp_path, 1, config="other")
    with pytest.raises(FormatError, match=r"scenes-00001\.parquet was built with another configuration"):
        open_set(tmp_path)


def test_reading_holds_one_group_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 4)
    made = [image(seed, 3) for seed in range(8)]
    write(tmp_path, made=made)
    groups = []
    real = pq.ParquetFile.read_row_group

    def counting(self, group, *arguments, **more):
        groups.append((self.metadata.num_columns, group))
        return real(self, group, *arguments, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    reader = open_set(tmp_path).images()
    next(reader)
    assert len(groups) == 2  # one of images, one of people
    for read, built in zip(reader, made[1:], strict=True):
        assert_same(read, built)
    assert len(groups) == len(set(groups)) == 8


def test_durable_files_are_as_readable_as_others(tmp_path):
    with _files.atomic_path(tmp_path / "a.txt", durable=True) as one, _files.atomic_path(tmp_path / "b.txt") as two:
        one.write_text("a")
        two.write_text("b")
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert set(modes) == {"a.txt", "b.txt"} and len(set(modes.values())) == 1
