"""The report on a set: its numbers against counting, its page, its contact sheet, and sets with nothing to say."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crowdmesh.body import load_body
from crowdmesh.dto import best, place
from crowdmesh.dto.place import posed_scene
from crowdmesh.dto.priors import AgeGroup
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.people import People
from crowdmesh.pgt.manifest import Manifest, hash_of, write_manifest
from crowdmesh.pgt.reading import open_set
from crowdmesh.pgt.records import Built, Entry, ImageFile, Outcome
from crowdmesh.pgt.report import photographs_below, picks, write, write_report
from crowdmesh.pgt.report.histogram import Histogram
from crowdmesh.pgt.report.picks import BEST, LARGEST, MEDIAN, REJECTED, WORST, Pick, pick_scenes
from crowdmesh.pgt.report.population import distance_m, minors_as_charted, minors_as_published, population
from crowdmesh.pgt.report.sheet import draw_sheet
from crowdmesh.pgt.report.statistics import gather
from crowdmesh.pgt.schema import PEOPLE_COLUMNS, SCENE_COLUMNS
from crowdmesh.pgt.shards import ShardWriter
from crowdmesh.synth import PRESETS, World, nominal, observe

CONFIG = {"source": {"kind": "made up"}, "experts": None, "dto": {"accept_below": 1.5}}
PAGE_DOC = Path(__file__).parent.parent / "docs" / "dataset.md"


@pytest.fixture(scope="module")
def placed() -> list[Built]:
    """Four placed images of the synthetic world."""
    world, body = World(replace(PRESETS["family"], image_sizes=((320, 240),)), 5), load_body("anny")
    made = []
    for index in range(4):
        seen = observe(world.scene(index), nominal(), index)
        before = posed_scene(replace(seen.guess, image=None), body)
        after, placement = place(before, seen.depth, best(), body)
        origins = ("detected",) + ("labelled",) * (len(before.people) - 1)
        entry = Entry("coco", f"{index}.jpg")
        made.append(Built(entry, Outcome.ACCEPTED, "", None, before, after, placement, origins))
    return made


@pytest.fixture(scope="module")
def many(placed: list[Built]) -> list[Built]:
    """Forty images of three data sets: accepted and rejected ones with scores of their own, and failures."""
    made = []
    for index in range(40):
        image = placed[index % 4]
        assert image.placement is not None
        entry = Entry(("coco", "mpii", "insta")[index % 3], f"{index:02d}.jpg")
        if index % 8 == 7:
            made.append(Built(entry, Outcome.IMAGE_MISSING, f"no file {index} <b>&"))
            continue
        score = 0.1 * index if index % 8 else float("inf")
        outcome = Outcome.ACCEPTED if score < 1.5 else Outcome.SCORE_TOO_HIGH
        outcome = Outcome.FEWER_THAN_TWO if np.isinf(score) else outcome
        made.append(replace(image, entry=entry, outcome=outcome, placement=replace(image.placement, score=score)))
    return made


def write_set(folder: Path, built: Sequence[Built], per_shard: int = 15) -> Path:
    """A set of these images, as a build leaves it."""
    config_hash = hash_of(CONFIG)
    for shard, start in enumerate(range(0, max(len(built), 1), per_shard)):
        with ShardWriter(folder, shard, config_hash) as writer:
            writer.add(built[start : start + per_shard])
    counts = Counter(image.outcome.value for image in built)
    people = sum(len(image.after.people) for image in built if image.after is not None)
    terms = ("Its pictures are <b>somebody's</b>.",)
    manifest = Manifest(CONFIG, config_hash, terms, len(built), len(built), people, 1, dict(counts), True)
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="module")
def folder(many: list[Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), many)


# --- numbers


@given(
    st.lists(st.floats(-2.0, 4.0) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0]), max_size=40),
    st.integers(0, 40),
)
def test_histogram_counts_each_value_once_in_any_portions(values: list[float], cut: int) -> None:
    numbers = np.array(values, float)
    whole, parts = Histogram(np.linspace(0.0, 1.0, 11)), Histogram(np.linspace(0.0, 1.0, 11))
    whole.add(numbers)
    parts.add(numbers[:cut])
    parts.add(numbers[cut:])
    assert whole.known + whole.unknown == len(values)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    known = numbers[~np.isnan(numbers)]
    assert (whole.below, whole.above) == ((known < 0).sum(), (known >= 1).sum())
    inside = known[(known >= 0) & (known < 1)]
    assert whole.counts.sum() == len(inside)
    if len(known) and np.isfinite(known).all():
        assert whole.mean == pytest.approx(known.mean()) and whole.std == pytest.approx(known.std(), abs=1e-6)
        assert whole.share(0.0, 1.0) == pytest.approx(len(inside) / len(known))
    assert np.isnan(Histogram(whole.edges).quantile(0.5)) and np.isnan(Histogram(whole.edges).mean)


def test_quantiles_are_right_to_a_bin() -> None:
    values = np.random.default_rng(0).uniform(0.0, 1.0, 1000)
    histogram = Histogram(np.linspace(0.0, 1.0, 101))
    histogram.add(values)
    for share in (0.05, 0.5, 0.95):
        assert histogram.quantile(share) == pytest.approx(np.quantile(values, share), abs=0.02)
    edges, shares = histogram.shares(10)
    assert len(edges) == 11 and shares.sum() == pytest.approx(1.0)


def test_population_is_a_distribution_and_distance_a_shift() -> None:
    edges = np.linspace(0.0, 3.0, 301)
    centres = (edges[:-1] + edges[1:]) / 2
    everybody = population(edges)
    assert everybody.sum() == pytest.approx(1.0, abs=1e-6)
    adults = population(edges, 20.0, 80.0)
    assert adults @ centres == pytest.approx((1.784 + 1.647) / 2, abs=1e-3)
    mixed = 0.25 * population(edges, 0.0, 20.0) + 0.75 * adults
    np.testing.assert_allclose(everybody, mixed, atol=1e-5)
    assert distance_m(everybody, everybody, edges) == 0.0
    assert distance_m(everybody, np.roll(everybody, 7), edges) == pytest.approx(0.07, abs=1e-4)
    for group in (AgeGroup.KID, AgeGroup.TEEN):
        ours, papers = minors_as_charted(group, edges), minors_as_published(group, edges)
        assert ours @ centres == pytest.approx(papers @ centres, abs=0.02)


@pytest.mark.parametrize("threshold", [None, 0.65, 3.0])
def test_statistics_are_those_of_counting(many: list[Built], folder: Path, threshold: float | None) -> None:
    found = gather(open_set(folder), threshold)
    outcomes = [b.outcome if threshold is None else b.outcome.at(b.score, threshold) for b in many]
    assert found.outcomes == Counter(outcomes) and found.images == 40
    kept = [b for b, outcome in zip(many, outcomes, strict=True) if outcome.accepted]
    people: list[People] = [b.after.people for b in kept if b.after is not None]
    assert found.accepted == len(kept)
    assert found.people == sum(map(len, people)) == found.stature_m.known
    assert found.all_people == sum(len(b.after.people) for b in many if b.after is not None)
    assert found.detected == len(kept)
    assert found.crowds == sum(len(p) >= 10 for p in people)
    assert found.people_per_image.mean == pytest.approx(np.mean([len(p) for p in people]))
    ages = np.concatenate([p.age_years for p in people if p.age_years is not None])
    assert found.minor_count == (ages < 15).sum() == sum(h.known for h in found.minors.values())
    assert found.age_years.unknown == np.isnan(ages).sum()
    assert found.stature_m.mean == pytest.approx(np.concatenate([p.stature_m for p in people]).mean())
    depths = np.concatenate([p.joints_m[:, 0, 2] for p in people if p.joints_m is not None])
    assert found.depth_m.mean == pytest.approx(depths.mean(), rel=1e-5)
    placed = [(b.placement.standardised_residual, b.placement.statuses) for b in kept if b.placement is not None]
    residuals = [r for rs, ss in placed for r, s in zip(rs, ss, strict=True) if s.placed]
    assert found.residuals.known == len(residuals) and found.residuals.mean == pytest.approx(np.mean(residuals))
    assert sum(d.images for d in found.datasets.values()) == 40 and set(found.datasets) == {"coco", "mpii", "insta"}
    assert sum(d.people for d in found.datasets.values()) == found.people
    assert found.details[Outcome.IMAGE_MISSING][0] == ("mpii/07.jpg", "no file 7 <b>&")


@pytest.mark.parametrize(("batches", "word"), [(lambda rows: rows[:-1], "fewer"), (lambda rows: rows * 2, "more")])
def test_people_who_belong_to_no_scene_are_found_out(folder: Path, unchecked, batches, word: str) -> None:
    built = open_set(folder)

    class Mixed:
        scene_batches = staticmethod(built.scene_batches)

        @staticmethod
        def people_batches(columns):
            return iter(batches(list(built.people_batches(columns))))

    with pytest.raises(FormatError, match=f"{word} people than its scenes count"):
        gather(Mixed())  # type: ignore[arg-type]


# --- the page


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """The report with photographs, an own threshold and true statures."""
    encoded = io.BytesIO()
    Image.new("RGB", (320, 240), (90, 120, 150)).save(encoded, "PNG")
    truth = np.random.default_rng(1).normal(1.6, 0.2, 500)
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picks, "EACH", 1)
        return write_report(folder, out, 2.0, truth, lambda scene: encoded.getvalue())


def test_page_holds_all_it_shows_and_asks_for_nothing(page) -> None:
    text = page.page.read_text("utf-8")
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    assert set(re.findall(r'src="([^"]{10})', text)) == {"data:image"}
    pictures = [file for file in page.files if file.suffix == ".png"]
    assert text.count("<img ") == len(pictures) and all(file.is_file() for file in page.files)
    assert all(900 <= Image.open(file).width <= 1500 for file in pictures)
    assert "no file 7 &lt;b&gt;&amp;" in text and "&lt;b&gt;somebody&#x27;s" in text and "<b>" not in text
    for said in ("0.56 M", "6.2 %", "50.9 K", "Filtered again with that threshold", "distance from the truth"):
        assert said in text
    for heading in (BEST, MEDIAN, WORST, REJECTED):
        assert f"<h3>{heading}</h3>" in text
    assert "not found" not in text and "without its photograph" not in text


def test_rows_for_the_terminal(page, folder: Path) -> None:
    rows = {what: ours for what, ours, _ in page.rows}
    assert rows["images looked at"] == "40" and rows["all images"] == "40 (100.0 %)"
    assert int(rows["images accepted"]) == gather(open_set(folder), 2.0).accepted == page.summary.accepted


def test_scenes_are_picked_once_and_in_order(many: list[Built], folder: Path) -> None:
    built = open_set(folder)
    picked = pick_scenes(built, gather(built))
    keys = [pick.key for pick in picked]
    assert len(set(keys)) == len(keys)
    scores = {image.entry.key: image.score for image in many}
    kept = sorted(score for key, score in scores.items() if score < 1.5)
    shown = {group: [scores[p.key] for p in picked if p.group == group] for group in (BEST, MEDIAN, WORST)}
    assert shown[BEST] == kept[:4] and shown[WORST] == kept[:-5:-1]
    assert all(kept[3] < score < kept[-4] for score in shown[MEDIAN]) and len(shown[MEDIAN]) == 4
    rejected = [pick.outcome for pick in picked if pick.group == REJECTED]
    assert len(rejected) == 4 and set(rejected) == {Outcome.FEWER_THAN_TWO, Outcome.SCORE_TOO_HIGH}


def _wrong_size(scene) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (64, 48)).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize(
    ("image_of", "said"),
    [
        (lambda scene: None, "the photograph was not found"),
        (lambda scene: Path("nowhere.jpg"), "without its photograph: nowhere.jpg cannot be read (No such file"),
        (_wrong_size, "without its photograph, which is of another size now"),
        (lambda scene: b"garbage", "without its photograph"),
    ],
)
def test_sheet_does_without_photographs(placed: list[Built], tmp_path: Path, image_of, said: str) -> None:
    built = open_set(write_set(tmp_path, placed[:1]))
    (picture,) = draw_sheet(built, [Pick(BEST, placed[0].entry.key, Outcome.ACCEPTED, 0)], tmp_path, image_of)
    assert said in picture.caption and picture.path == tmp_path / "accepted_lowest_scores_1.png"
    assert (tmp_path / "accepted_lowest_scores_1.png").is_file()


def test_only_the_photograph_of_the_set_counts(placed: list[Built], tmp_path: Path) -> None:
    """One that lies where the set's might, and is of its size, is another one."""
    files = []
    for folder, colour in (("other", 10), ("own/a", 90)):
        (tmp_path / folder).mkdir(parents=True)
        files.append(tmp_path / folder / "0.jpg")
        Image.new("RGB", (320, 240), (colour,) * 3).save(files[-1])
    data = files[1].read_bytes()
    known = ImageFile(len(data), hashlib.sha256(data).hexdigest(), 320, 240)
    entry = Entry("scenes", "a/0")  # called after its scene
    built = open_set(write_set(tmp_path / "set", [replace(placed[0], entry=entry, file=known)]))
    pick = [Pick(BEST, entry.key, Outcome.ACCEPTED, 0)]
    (picture,) = draw_sheet(built, pick, tmp_path, photographs_below(tmp_path / "other"))
    assert picture.caption.endswith("the one found is another file than the set was built from")
    (picture,) = draw_sheet(built, pick, tmp_path, photographs_below(tmp_path / "own"))
    assert "photograph" not in picture.caption


def test_pictures_of_an_earlier_report_go(page, folder: Path, tmp_path: Path, monkeypatch) -> None:
    for name in ("accepted_most_people_4.png", "rejected_2.png", "rejected_9.png", "mine.png"):
        (tmp_path / name).touch()
    monkeypatch.setattr(write, "pick_scenes", lambda *_: [])
    write_report(folder, tmp_path)
    left = {path.name for path in tmp_path.iterdir()} - {path.name for path in page.files}
    assert left == {"rejected_9.png", "mine.png"}


def test_bodies_without_their_files_are_dots(placed: list[Built], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    image = placed[0]
    scenes = []
    for scene in (image.before, image.after):
        assert scene is not None
        count = len(scene.people)
        people = replace(
            scene.people, body="smpl", pose=np.zeros((count, 24, 3)), shape=np.zeros((count, 11)), vertices_m=None,
            joints_m=None,
        )  # fmt: skip
        scenes.append(replace(scene, people=people))
    built = open_set(write_set(tmp_path / "set", [replace(image, before=scenes[0], after=scenes[1])]))
    (picture,) = draw_sheet(built, [Pick(BEST, image.entry.key, Outcome.ACCEPTED, 0)], tmp_path, None)
    assert picture.caption.endswith("bodies are dots, because the files of body 'smpl' are not on this machine")
    assert picture.path is not None and picture.path.is_file()


# --- sets with little or nothing to say


def _ageless(image: Built) -> Built:
    scenes = [
        replace(scene, people=replace(scene.people, age_years=np.full(len(scene.people), np.nan)))
        for scene in (image.before, image.after)
        if scene is not None
    ]
    return replace(image, before=scenes[0], after=scenes[1])


def _taken_over(image: Built) -> Built:
    return replace(image, outcome=Outcome.TAKEN_OVER, after=image.before, placement=None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda images: [], "The set holds no image yet."),
        (lambda images: [Built(Entry("a", "b.jpg"), Outcome.FAILED, "it broke")], "No image was accepted"),
        (lambda images: [Built(Entry("a", "b.jpg"), Outcome.NOBODY)], "No image of the set has people to show."),
        (lambda images: [_ageless(images[0])], "The age of nobody in the accepted images is known."),
        pytest.param(lambda images: [_taken_over(images[0])], "No image has a score", marks=pytest.mark.slow),
        (lambda images: [replace(images[0], outcome=Outcome.SCORE_TOO_HIGH)], "there is no stature to show"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_sets_with_little_to_say_say_so(placed: list[Built], tmp_path: Path, change, said: str) -> None:
    report = write_report(write_set(tmp_path, change(placed)))
    text = report.page.read_text("utf-8")
    assert said in text and "nan" not in re.sub(r"base64,[^\"]*", "", text)
    assert report.rows


def test_taken_over_scenes_are_shown_by_size(placed: list[Built], tmp_path: Path) -> None:
    built = open_set(write_set(tmp_path, [_taken_over(image) for image in placed]))
    picked = pick_scenes(built, gather(built))
    assert {pick.group for pick in picked} == {LARGEST} and len(picked) == 4
    sizes = {image.entry.key: len(image.after.people) for image in placed if image.after is not None}
    assert [sizes[pick.key] for pick in picked] == sorted(sizes.values(), reverse=True)


def test_what_cannot_be_reported_is_refused(folder: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match="threshold of the score must be positive"):
        write_report(folder, tmp_path, threshold=0.0)
    for truth in (np.array([]), np.array([1.7, np.nan]), np.array([170.0, -1.0])):
        with pytest.raises(InputError, match="true statures must be"):
            write_report(folder, tmp_path, truth_m=truth)
    with pytest.raises(InputError, match="holds no set"):
        write_report(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(AssetError, match="pip install 'crowdmesh"):
        write_report(folder, tmp_path)


# --- docs/dataset.md


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE_DOC.read_text("utf-8"), re.DOTALL)


def test_sql_of_the_docs_runs_and_agrees(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    tables = [duckdb.connect().execute(block.replace("'SET/", f"'{folder}/")).fetchall() for block in _blocks("sql")]
    by_outcome, crowds, again, steps, children, worst, twice, datasets = tables
    found, at = gather(open_set(folder)), gather(open_set(folder), 1.2)
    assert {Outcome(name): count for name, count, _ in by_outcome} == found.outcomes
    assert len(crowds) == found.crowds and sum(now for *_, now in again) == at.accepted
    assert {threshold: people for threshold, _, people in steps}[1.5] == found.people
    assert all(age < 15 and stature < 1.2 for _, _, age, _, stature in children)
    assert len(worst) == 20 and not twice and {row[0] for row in datasets} == set(found.datasets)


def test_polars_of_the_docs_runs(folder: Path) -> None:
    pytest.importorskip("polars")
    names: dict = {}
    for block in _blocks("python"):
        exec(block.replace('"SET/', f'"{folder}/'), names)
    assert names["kept"].collect().height == gather(open_set(folder), 1.2).accepted
    assert names["crowds"].height == gather(open_set(folder)).crowds


def test_docs_name_every_column() -> None:
    text = PAGE_DOC.read_text("utf-8")
    for name, column in (SCENE_COLUMNS | PEOPLE_COLUMNS).items():
        assert f"| `{name}` |" in text and column.meaning in text, name
