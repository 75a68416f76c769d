"""Made-up images of a set, with everything that the columns can hold, and what tells two of them apart."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from crowdmesh.camera import Camera
from crowdmesh.dto.interval import ScaleInterval
from crowdmesh.dto.placement import Placement
from crowdmesh.people import People, PersonStatus
from crowdmesh.pgt.records import Built, Entry, ImageFile, Outcome
from crowdmesh.pgt.schema import BEFORE, EVIDENCE, PLACEMENT
from crowdmesh.scene import Scene

UNKNOWN_ALLOWED = ("age_years", "age_std_years", "male_probability", "known_stature_m", "fit_error_px")
EVERYTHING = tuple(EVIDENCE.values())
SIZES = {"anny": (104, 6), "smpl": (24, 11)}


def image(seed: int, people: int = 3, body: str = "anny", evidence=EVERYTHING, placed=True, **changes):
    """An image with so many people; numbers follow from the seed."""
    random = np.random.default_rng([seed, people])
    entry = Entry("set", f"folder/{seed}.jpg")
    guess = _people(random, people, body, evidence)
    camera = Camera.from_vertical_fov(random.uniform(0.5, 1.5), 640, 427)
    before = Scene(camera, guess, provenance={"camera": "given"})
    moved = {name: random.uniform(0.5, 2.0, np.shape(getattr(guess, name))) for name in BEFORE if name != "status"}
    values = {f.name: getattr(guess, f.name) for f in fields(People)} | moved
    values["status"] = random.integers(1, 11, people)
    after = Scene(camera, People(**values), provenance={"camera": "given", "dto": {}})
    made = {
        "file": ImageFile(1000 + seed, f"{seed:064x}", 640, 427),
        "before": before,
        "after": after if placed else before,
        "placement": _placement(random, people, values["status"]) if placed else None,
        "origins": tuple(random.choice(["labelled", "detected"], people).tolist()),
        "label_rows": random.integers(-1, 10**12, people),
        "notes": ("one", "ümlaut, “quoted”"),
        "focal_std": 0.1,
    }
    return Built(entry, **{"outcome": Outcome.ACCEPTED if placed else Outcome.TAKEN_OVER, **made, **changes})


def failure(seed: int, outcome: Outcome = Outcome.IMAGE_MISSING) -> Built:
    """An image of which nothing was found out."""
    return Built(Entry("set", f"folder/{seed}.jpg"), outcome, detail="it is not there")


def _people(random: np.random.Generator, count: int, body: str, evidence) -> People:
    joints, parameters = SIZES[body]
    values = {}
    for name in evidence:
        trailing = {"boxes_px": (4,), "keypoints_px": (17, 3)}.get(name, ())
        values[name] = random.uniform(0.01, 1.0, (count, *trailing))
        if name in UNKNOWN_ALLOWED:
            values[name][random.uniform(size=count) < 0.4] = np.nan
    return People(
        body,
        translation_m=random.normal(size=(count, 3)),
        stature_m=random.uniform(0.5, 2.0, count),
        pose=random.normal(size=(count, joints, 3)),
        shape=random.normal(size=(count, parameters)),
        joints_m=random.normal(size=(count, joints, 3)),
        status=np.full(count, PersonStatus.INITIAL.value),
        **values,
    )


def _placement(random: np.random.Generator, count: int, status: np.ndarray) -> Placement:
    values = {name: random.normal(size=count) for name in PLACEMENT}
    values["prior_group"] = random.integers(0, 6, count)
    values["samples"], values["excluded"] = random.integers(0, 10**6, (2, count))
    return Placement(
        preset="best",
        scale=random.normal(),
        shift=None,
        interval=ScaleInterval(0.0, np.inf, None, False),
        active=0,
        stature_m=random.uniform(1.0, 2.0, count),
        status=status,
        score=random.uniform(0.0, 1.5),
        accepted=True,
        **values,
    )


def assert_same(read, built: Built) -> None:
    """What was read from a set is what went in, to the last bit (but for provenance, vertices, masks and joints)."""
    assert (read.key, read.dataset, read.path) == (built.entry.key, built.entry.dataset, built.entry.path)
    for name in ("outcome", "detail", "score", "file", "origins", "notes", "focal_std"):
        assert getattr(read, name) == getattr(built, name), name
    assert_equal(read.label_rows, built.label_rows, "label_rows")
    for which in ("before", "after"):
        one, two = getattr(read, which), getattr(built, which)
        assert (one is None) == (two is None)
        if one is not None:
            assert one.camera == two.camera and one.provenance.get("camera") == two.provenance.get("camera")
            for field in fields(People):
                if field.name not in ("vertices_m", "joints_m", "masks"):
                    assert_equal(getattr(one.people, field.name), getattr(two.people, field.name), field.name)
    if built.after is not None and len(built.after.people) and built.after.people.joints_m is not None:
        assert_equal(read.pelvis_m, built.after.people.joints_m[:, 0].astype(float), "pelvis_m")
        assert_equal(read.pelvis_before_m, built.before.people.joints_m[:, 0].astype(float), "pelvis_before_m")
    assert (read.preset is None) == (built.placement is None) == (not read.placement)
    for name, values in read.placement.items():
        assert_equal(values, getattr(built.placement, name), name)


def assert_equal(one, two, name: str) -> None:
    """Equal values, or arrays equal in dtype, shape and every number, NaN included."""
    if isinstance(two, np.ndarray):
        assert isinstance(one, np.ndarray) and one.dtype == two.dtype, name
        np.testing.assert_array_equal(one, two, err_msg=name)
    else:
        assert one == two, name
