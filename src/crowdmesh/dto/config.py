"""Every constant of DTO with its source, and the three presets: ``paper``, ``official`` and ``best``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from crowdmesh.errors import InputError

PresetName = Literal["best", "paper", "official"]
PriorName = Literal["paper", "lms", "agnostic"]


@dataclass(frozen=True)
class CueConfig:
    """How the depth map is read on each person."""

    evidence: Literal["pixels", "vertices"] = "pixels"
    """Sample the depth map on the pixels where a person is seen, or at the person's visible vertices (paper 3.2.2)."""
    person_depth: Literal["surface", "pelvis"] = "surface"
    """What "the depth of a person" is: the mean of the surface that was sampled, or the pelvis (paper eq. 1)."""
    raster_long_side: int = 512
    """Longest side of the z-buffer in pixels (release: 512)."""
    min_samples: int = 16
    """Fewest samples with a valid depth; our choice: a person of about 4 x 4 pixels."""
    min_image_fraction: float = 0.0
    """Fewest pixels as a share of the image (release: 1/400, which loses small people)."""
    min_visible_vertices: float = 0.0
    """Smallest share of a body's vertices that is visible (release: 500 of 6890)."""
    iqr_factor: float | None = 1.5
    """Discard depths outside the quartiles by this many interquartile ranges (release: 1.5); ``None``: keep all."""
    centre_rows: bool = True
    """Subtract image-row means before the depth slope is fitted, against floor-like gradients (release)."""
    inlier_m: float | None = 0.1
    """Discard samples further than this from the slope fit (release: 0.1 m); ``None``: keep all."""
    lowest_rows: float | None = None
    """Also average over the samples in the lowest rows above this quantile (release: 0.9); ``None``: do not."""


@dataclass(frozen=True)
class ScaleConfig:
    """How the depth slope inside people bounds the scale of the scene (paper 3.2.2 and 6.3)."""

    low: float = 1.0
    """alpha_1: lower bound of the scale over the intra-human slope."""
    high: float = 5.0
    """alpha_2: upper bound of the scale over the intra-human slope, where people stand at different depths."""
    spread: Literal["variance", "deviation"] = "variance"
    """A scene is planar where the variance (paper) or standard deviation (release) of the people's depths is smaller
    than the mean one inside people; the scale is then fixed to alpha_1 times the slope."""
    expected_size: bool = True
    """Measure the slope on bodies of their expected stature (prior mean) instead of their first guess: the depth of a
    body scales with its size, so an adult-sized child doubles the paper's slope (ours; figures in docs/results.md)."""
    min_correlation: float = 0.0
    """A person's slope counts with the weight of its correlation when that exceeds this value (release: 0.5)."""


@dataclass(frozen=True)
class DTOConfig:
    """One way of running DTO."""

    preset: PresetName = "best"
    cues: CueConfig = field(default_factory=CueConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    prior: PriorName = "paper"
    """``paper``: four age groups and hybrid adults; ``agnostic``: the same without sex (D'); ``lms``: exact age."""
    unknown_age_std_m: float = 0.26
    """Spread of the prior of a person whose age is NaN: asked for, but nobody could tell. With the paper's uniform ages
    over 80 years (section 7) the mixture of its groups has a standard deviation of 0.26 m about the adult mean."""
    stature_range_m: tuple[float, float] = (0.40, 2.10)
    """A corrected stature outside is implausible and leaves the person where they were: shorter than newborns, or a
    giant (release: 2.1 m)."""
    implausible_residual: float = 3.0
    """What a person of implausible stature counts in the score at least (release: 3)."""
    accept_below: float = 1.5
    """Scenes whose mean standardised residual stays below are accepted (paper 3.2.4)."""
    min_known_ages: float = 0.5
    """Scenes in which a smaller share of the people has a known age are not accepted: their scale rests on guesses.
    Counts only where ages were asked for (ours)."""

    def __post_init__(self) -> None:
        for name, allowed in (("preset", get_args(PresetName)), ("prior", get_args(PriorName))):
            if getattr(self, name) not in allowed:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; use one of {', '.join(allowed)}")
        low, high = self.stature_range_m
        if not 0 < low < high:
            raise InputError(f"stature_range_m must be (low, high) with 0 < low < high, got {self.stature_range_m}")


def best() -> DTOConfig:
    """The default: the paper's problem on robust pixel cues and on slopes of expected size; nobody is dropped."""
    return DTOConfig()


def paper() -> DTOConfig:
    """The paper's text to the letter: depth at visible vertices, z* = s d + t is the person's (pelvis) depth."""
    cues = CueConfig(
        evidence="vertices", person_depth="pelvis", min_samples=1, iqr_factor=None, centre_rows=False, inlier_m=None
    )
    # All people count with their correlation, negative ones too; unknown ages do not occur in the paper.
    scale = ScaleConfig(expected_size=False, min_correlation=-1.0)
    anything = (1e-6, 1e6)
    return DTOConfig("paper", cues, scale, unknown_age_std_m=0.1, stature_range_m=anything, min_known_ages=0.0)


def official() -> DTOConfig:
    """What the released code does, bugs included where they change numbers (``dto/released.py``)."""
    cues = CueConfig(min_image_fraction=1 / 400, min_visible_vertices=500 / 6890, lowest_rows=0.9)
    scale = ScaleConfig(high=1.0, spread="deviation", expected_size=False, min_correlation=0.5)
    return DTOConfig("official", cues, scale, unknown_age_std_m=0.1, min_known_ages=0.0)


PRESETS = {"best": best, "paper": paper, "official": official}
"""The presets by name."""
