"""Who does what: pose families, and who carries, holds or seats whom, drawn before anybody is posed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crowdmesh.synth.config import WorldConfig
from crowdmesh.synth.staging.crowd import Crowd
from crowdmesh.synth.staging.figures import Figure
from crowdmesh.synth.staging.poses import family_for_age
from crowdmesh.synth.staging.supports import (
    Unit,
    on_chair,
    standing,
    with_baby_held,
    with_child_on_lap,
    with_child_on_shoulders,
)

HELD_YEARS, LAP_YEARS, SHOULDERS_YEARS = (0.0, 2.0), (0.8, 8.0), (2.0, 7.0)
"""Ages at which children are held in arms, sit on a lap and ride on shoulders."""
CARRIER_YEARS = (17.0, 65.0)
JUMPER_YEARS = (5.0, 60.0)
JUMP_HEIGHT_M = (0.08, 0.7)
"""How far above the ground the lowest point of a jumping person is."""

_ROW_FAMILIES = {"standing": 0.7, "kneeling": 0.15, "sitting": 0.15}
_CARRIED_FAMILIES = {
    "lap": ("seating a child", "sitting on a lap"),
    "shoulders": ("carrying", "riding"),
    "held": ("holding", "held"),
}


@dataclass(frozen=True)
class Role:
    """What one person does.

    Attributes:
        family: pose family.
        support: ``"ground"``, ``"chair"``, ``"air"``, or how ``carrier`` carries this person.
        carrier: who carries this person, if anybody.
    """

    family: str
    support: str
    carrier: int | None = None


def cast(config: WorldConfig, crowd: Crowd, arrangement: str, random: np.random.Generator) -> list[Role]:
    """Draw the role of everybody. Children find carriers first; everybody else chooses a family by weight.

    In rows people pose for the photograph: they stand, or kneel and sit in front.
    """
    alone = _in_row if arrangement == "rows" else _alone
    roles: list[Role | None] = [None] * len(crowd)
    ages = crowd.age_years
    jumpers = [k for k in range(len(crowd)) if _within(ages[k], JUMPER_YEARS)][: config.jumpers]
    for k in jumpers:
        roles[k] = Role("jumping", "air")
    for k in range(len(crowd)):
        support = _carried_support(config.supports, ages[k], random)
        free = [a for a in range(len(crowd)) if roles[a] is None and a != k and _within(ages[a], CARRIER_YEARS)]
        if support is None or not free or roles[k] is not None:
            continue
        carrier = int(random.choice(free))
        adult_family, child_family = _CARRIED_FAMILIES[support]
        roles[carrier] = Role(adult_family, "chair" if support == "lap" else "ground")
        roles[k] = Role(child_family, support, carrier)
    return [role or alone(config, float(ages[k]), random) for k, role in enumerate(roles)]


def assemble(roles: list[Role], figures: list[Figure], random: np.random.Generator) -> list[Unit]:
    """Units of people who belong together. A child that does not fit its carrier sits or stands beside instead."""
    units: dict[int, Unit] = {}
    for k, role in enumerate(roles):
        if role.carrier is None:
            units[k] = _unit_alone(k, role, figures[k], random)
    for k, role in enumerate(roles):
        if role.carrier is None:
            continue
        carrier = units[role.carrier]
        if role.support == "lap":
            joined = with_child_on_lap(carrier, k, figures[k], random)
        elif role.support == "shoulders":
            joined = with_child_on_shoulders(carrier, k, figures[k])
        else:
            joined = with_baby_held(carrier, k, figures[k], random)
        if joined is None:
            units[k] = on_chair(k, figures[k], random)
        else:
            units[role.carrier] = joined
    return [units[k] for k in sorted(units)]


def _unit_alone(k: int, role: Role, figure: Figure, random: np.random.Generator) -> Unit:
    if role.support == "chair":
        return on_chair(k, figure, random)
    return standing(k, figure, float(random.uniform(*JUMP_HEIGHT_M)) if role.support == "air" else 0.0)


def _carried_support(supports: Mapping[str, float], age: float, random: np.random.Generator) -> str | None:
    for name, years in (("held", HELD_YEARS), ("shoulders", SHOULDERS_YEARS), ("lap", LAP_YEARS)):
        if _within(age, years) and random.random() < supports.get(name, 0.0):
            return name
    return None


def _alone(config: WorldConfig, age: float, random: np.random.Generator) -> Role:
    if age >= 3.0 and random.random() < config.supports.get("chair", 0.0):
        return Role("sitting on a chair", "chair")
    if _within(age, JUMPER_YEARS) and random.random() < config.supports.get("air", 0.0):
        return Role("jumping", "air")
    weights = np.array(list(config.poses.values()))
    family = str(random.choice(list(config.poses), p=weights / weights.sum()))
    if family == "kneeling" and random.random() < 0.3:
        family = "squatting"
    return Role(family_for_age(family, age, random), "ground")


def _in_row(config: WorldConfig, age: float, random: np.random.Generator) -> Role:
    if age >= 3.0 and random.random() < config.supports.get("chair", 0.0):
        return Role("sitting on a chair", "chair")
    families = [name for name in _ROW_FAMILIES if config.poses.get(name, 0.0) > 0.0] or ["standing"]
    shares = np.array([_ROW_FAMILIES.get(name, 1.0) for name in families])
    family = str(random.choice(families, p=shares / shares.sum()))
    return Role(family_for_age(family, age, random), "ground")


def _within(age: float, years: tuple[float, float]) -> bool:
    return bool(years[0] <= age < years[1])
