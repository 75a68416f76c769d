"""The plan and the manifest of a set."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt.manifest import Manifest, claim, differences, hash_of, read_manifest, write_manifest
from crowdmesh.pgt.plan import Plan, extend_plan
from crowdmesh.pgt.records import Entry


def entries_of(names: list[str], found: bool = True) -> list[Entry]:
    return [Entry("coco", name, "coco-release", 5 * number, 5, found) for number, name in enumerate(names)]


def all_entries(plan: Plan) -> list[Entry]:
    return [entry for shard in range(plan.shards) for entry in plan.entries(shard)]


names = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=30, unique=True)


@settings(max_examples=20)
@given(names=names, cut=st.integers(0, 30), per_shard=st.integers(1, 7))
def test_plan_holds_every_image_once_in_order_through_all_generations(names, cut, per_shard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    entries = [replace(entry, found=entry.row % 3 > 0) for entry in entries_of(names)]
    first = entries[: max(1, min(cut, len(entries)))]
    told = []
    extend_plan(folder, iter(first), per_shard, told.append)
    plan = extend_plan(folder, iter(reversed(entries)), per_shard)
    assert sum(told) == len(first)
    news = [entry for entry in reversed(entries) if entry not in first]
    assert all_entries(plan) == [*first, *news]
    assert plan == Plan.open(folder)
    assert (plan.records, plan.missing) == (len(entries), sum(not entry.found for entry in entries))
    assert [plan.size(shard) for shard in range(plan.shards)] == [
        len(plan.entries(shard)) for shard in range(plan.shards)
    ]
    assert plan.generations[0].shards == -(-len(first) // per_shard)
    assert not list((folder / "plan").glob(".*"))


def test_images_that_vanish_stay_and_nothing_is_written_without_news(tmp_path):
    plan = extend_plan(tmp_path, entries_of(["a", "b", "c"]), 2)
    files = sorted((tmp_path / "plan").iterdir())
    assert plan.vanished == 0
    assert extend_plan(tmp_path, entries_of(["c"]), 2) == replace(plan, vanished=2)
    assert sorted((tmp_path / "plan").iterdir()) == files


@pytest.mark.parametrize("names", [[], ["x", "y"]])
def test_another_source_of_the_same_name_is_refused(tmp_path, names):
    plan = extend_plan(tmp_path, entries_of(["a", "b"]), 2)
    with pytest.raises(InputError, match="none of the 2 planned images is in the source any more"):
        extend_plan(tmp_path, entries_of(names), 2)
    assert Plan.open(tmp_path) == plan


def test_image_that_occurs_twice_is_named(tmp_path):
    with pytest.raises(InputError, match="coco/b occurs twice"):
        extend_plan(tmp_path, entries_of(["a", "b", "c", "b"]), 2)
    assert Plan.open(tmp_path) is None and not list(tmp_path.rglob("*.parquet"))
    extend_plan(tmp_path, entries_of(["a"]), 2)
    with pytest.raises(InputError, match="coco/a occurs twice"):
        extend_plan(tmp_path, entries_of(["a", "x", "a"]), 2)


def test_plans_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="no images"):
        extend_plan(tmp_path, [], 2)
    with pytest.raises(InputError, match="not valid UTF-8"):
        extend_plan(tmp_path, entries_of(["bad\udcff.jpg"]), 2)
    plan = extend_plan(tmp_path, entries_of(["a"]), 2)
    with pytest.raises(InputError, match="2 images per shard, not 3"):
        extend_plan(tmp_path, entries_of(["b"]), 3)
    with pytest.raises(InputError, match="shards 0 to 0"):
        plan.entries(1)

    def unreadable():
        yield entries_of(["b"])[0]
        raise PermissionError(13, "Permission denied", "/data/closed")

    with pytest.raises(InputError, match=r"cannot list the source's images: .*/data/closed"):
        extend_plan(tmp_path, unreadable(), 2)


def test_of_two_processes_that_plan_at_once_one_wins_and_the_other_takes_its_plan(tmp_path):
    def slow(names, inner):
        yield from entries_of(names)
        extend_plan(tmp_path, entries_of(inner), 2)

    plan = extend_plan(tmp_path, slow(["a", "b", "c"], ["a", "b", "c"]), 2)
    assert len(plan.generations) == 1 and plan.records == 3
    with pytest.raises(InputError, match=r"another process wrote .* other images"):
        extend_plan(tmp_path, slow(["a", "b", "c", "d"], ["a", "b", "c", "e"]), 2)
    assert [entry.path for entry in all_entries(Plan.open(tmp_path))] == ["a", "b", "c", "e"]


def test_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    assert extend_plan(tmp_path, entries_of(["a"]), 2).records == 1
    assert [path.name for path in (tmp_path / "plan").iterdir()] == ["records-00000.parquet"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign"])
def test_damaged_plan_is_one_sentence(tmp_path, damage):
    plan = extend_plan(tmp_path, entries_of([f"{number:09d}" for number in range(3000)]), 1000)
    path = plan.generations[0].path
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 3] ^= 0xFF
    path.write_bytes({"truncated": bytes(data[:-100]), "flipped": bytes(data), "foreign": b"PAR1 no PAR1"}[damage])
    with pytest.raises(FormatError, match=r"records-00000.parquet is not a readable plan .* delete") as caught:
        all_entries(Plan.open(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_listing_a_source_takes_eight_bytes_an_image(tmp_path):
    def many(count):
        for number in range(count):
            yield Entry("coco", f"train2014/COCO_train2014_{number:012d}.jpg", "coco-release", number, 5)

    def peak(count):
        gc.collect()
        tracemalloc.start()
        extend_plan(tmp_path / str(count), many(count), 256)
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    peak(10)  # what is loaded on first use does not count
    grown = peak(4_000) - peak(2_000)
    assert grown < 2_000 * 40  # eight bytes, as much again while they are sorted, and some slack


def manifest_of(**config) -> Manifest:
    config = {"source": {"kind": "images"}, "experts": None, **config}
    return Manifest(config, hash_of(config), ("free",))


def test_manifest_comes_back(tmp_path):
    manifest = replace(manifest_of(dto={"a": 1e6}), planned=9, images=5, counts={"accepted": 3, "failed": 2}, shards=2)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert manifest.source == {"kind": "images"} and manifest.weights == {}
    assert not read_manifest(tmp_path).complete


def test_differences_are_told_value_by_value():
    there = {"dto": {"accept_below": 1.5, "same": [1, 2]}, "gone": "x" * 100, "experts": None}
    asked = {"dto": {"accept_below": 2.0, "same": [1, 2]}, "experts": {"name": "lite"}}
    assert differences(there, there) == []
    told = differences(there, asked)
    assert told[0] == "dto.accept_below: 1.5 -> 2.0"
    assert told[1].startswith('gone: "xxx') and told[1].endswith('xxx" -> absent') and len(told[1]) < 100
    assert told[2:] == ["experts: null -> absent", 'experts.name: absent -> "lite"']


def test_folder_of_another_set_is_refused_with_the_difference(tmp_path):
    claim(tmp_path, manifest_of(dto={"accept_below": 1.5, "solver": "fused"}))
    claim(tmp_path, manifest_of(dto={"accept_below": 1.5, "solver": "fused"}))
    with pytest.raises(InputError, match=r'dto.solver: "fused" -> "affine"\); use the same arguments'):
        claim(tmp_path, manifest_of(dto={"accept_below": 1.5, "solver": "affine"}))
    with pytest.raises(InputError, match=r"accept_below: 1.5 -> 2.0\); for another threshold .* --threshold"):
        claim(tmp_path, manifest_of(dto={"accept_below": 2.0, "solver": "fused"}))
    with pytest.raises(InputError, match="and 4 more"):
        claim(tmp_path, manifest_of(dto={str(number): number for number in range(8)}))


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="not empty and holds no set"):
        claim(tmp_path, manifest_of())
    with pytest.raises(InputError, match="holds no set"):
        read_manifest(tmp_path)
    claim(tmp_path / "new", manifest_of())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"version": 1', '"version": 2', "update crowdmesh"),
        ("crowdmesh-set", "something", "its format is not"),
        ('"images": 0', '"images": -1', "no numbers"),
        ('"kind": "images"', '"kind": "other"', "not the one its hash"),
        ('"counts": {}', '"counts": {"nonsense": 1}', "nonsense"),
        ('"complete": false', '"complete": 0', "completeness"),
        ("}", "", "not a readable manifest"),
    ],
)
def test_damaged_manifest_is_one_sentence(tmp_path, unchecked, old, new, said):
    claim(tmp_path, manifest_of())
    path = Path(tmp_path / "manifest.json")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FormatError, match=said) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_holds_finite_numbers():
    with pytest.raises(InputError, match="NaN or infinity"):
        hash_of({"dto": {"accept_below": float("inf")}})
