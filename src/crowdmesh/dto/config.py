"""Every constant of DTO with its source, and the three presets: ``paper``, ``official`` and ``best``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from crowdmesh.errors import InputError

PresetName = Literal["best", "paper", "official"]
PriorName = Literal["marginal", "paper", "lms", "agnostic"]
SolverName = Literal["fused", "affine", "released"]


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

    bounded: bool = True
    """Whether the slope bounds the scale at all (off: the paper's ablation +D; any positive scale)."""
    planar_rule: bool = True
    """Whether the scale of planar scenes is fixed to the slope."""
    split_far: bool = False
    """Whether near and far people are solved apart (release; only its solver does)."""
    low: float = 1.0
    """alpha_1: lower bound of the scale over the intra-human slope."""
    high: float = 5.0
    """alpha_2: upper bound of the scale over the intra-human slope, where people stand at different depths."""
    spread: Literal["variance", "deviation"] = "variance"
    """A scene is planar where the variance (paper) or standard deviation (release) of the people's depths is smaller
    than the mean one inside people; the scale is then fixed to alpha_1 times the slope."""
    expected_size: bool = True
    """Measure the slope on bodies of their expected stature (prior mean) instead of their first guess: the depth of a
    body scales with its size, so an adult-sized child doubles the paper's slope (ours)."""
    min_correlation: float = 0.0
    """A person's slope counts with the weight of its correlation when that exceeds this value (release: 0.5)."""


@dataclass(frozen=True)
class DensityConfig:
    """What apparent ages and sexes are worth (``dto/density.py``)."""

    age_std_years: float = 0.5
    """Standard deviation of a newborn's age where the estimator reports none ..."""
    age_std_share: float = 0.10
    """... and its growth with age: over ages 0 to 90 a mean error of 4 years, as MiVOLO reports."""
    gross_age_share: float = 0.05
    """Share of ages that are plainly wrong and say nothing: anybody may be meant ..."""
    anybody_flat_share: float = 0.3
    """... of a population of uniform ages (paper section 7) or, in this share of cases, of any stature alike: people of
    whom no age can be read are no sample of a population."""
    first_guess_weight: float = 0.0
    """Weight of the first guess in an adult's mean stature (paper section 6.4: one half)."""


@dataclass(frozen=True)
class FusionConfig:
    """How stature, depth map and ground are weighed against each other (``dto/posterior.py``, ``dto/ground.py``).

    Errors are relative. The people of an image tell which of the candidate errors applies.
    """

    disparity_model: Literal["inverse", "depth"] = "inverse"
    """What is affine in a disparity map: inverse depth, or (paper) depth in its reciprocal."""
    fit_errors: tuple[float, ...] = (0.02, 0.04, 0.08)
    """Candidates of how far the first depth of a person in full view is from what the stature implies ..."""
    fit_error_weights: tuple[float, ...] = (0.3, 0.4, 0.3)
    """... and their prior weights."""
    hidden_gain: float = 2.0
    """Fit errors grow by 1 + gain * hidden share of the body."""
    fit_outlier_share: float = 0.05
    """Share of people whose first body is plainly wrong (squeezed into a visible half, taken for two) ..."""
    map_errors: tuple[float, ...] = (0.01, 0.03, 0.08, 0.20)
    """Candidate errors of the depth map on a person ..."""
    map_error_weights: tuple[float, ...] = (0.3, 0.25, 0.25, 0.2)
    """... and their prior weights."""
    outlier_share: float = 0.12
    """Share of people on whom the map is plainly wrong (flattened, covered by somebody in front) ..."""
    outlier_std: float = 0.35
    """... and the error of either."""
    slope_range: tuple[float, float] = (0.1, 2.5)
    """Values of 1 - bend that are tried: the share of the map's own differences in the people's ..."""
    slope_nodes: int = 24
    """... so many of them, evenly spaced in the logarithm."""
    slope_log_mean: float = -0.15
    """Prior of log(1 - bend): maps tend to read zero at the farthest things in view, ..."""
    slope_log_std: float = 0.40
    """... more or less."""
    metric_scale_std: float = 0.25
    """Relative error of the scale of a metric depth map ..."""
    metric_slope_std: float = 0.15
    """... and of its slope."""
    ground: bool = True
    """Whether feet on a common ground count as a third witness."""
    ground_error: float = 0.07
    """Error of a depth read off the ground, for people who stand on it ..."""
    ground_outlier_share: float = 0.4
    """... which so many do not (chairs, steps, hidden feet); ..."""
    ground_outlier_std: float = 0.5
    """... their depth is off by this."""
    ground_people: int = 5
    """Fewest people from whose feet a ground is found (three numbers are fitted)."""

    def __post_init__(self) -> None:
        for name in ("fit_error", "map_error"):
            values, weights = getattr(self, f"{name}s"), getattr(self, f"{name}_weights")
            if len(values) != len(weights) or min(values, default=0.0) <= 0 or min(weights, default=0.0) <= 0:
                raise InputError(
                    f"{name}s and {name}_weights must be as many positive numbers, got {values}, {weights}"
                )

        shares = (self.fit_outlier_share, self.outlier_share, self.ground_outlier_share)
        spreads = (self.outlier_std, self.slope_log_std, self.metric_scale_std, self.metric_slope_std)
        low, high = self.slope_range
        if not all(0.0 <= share <= 1.0 for share in shares):
            raise InputError(f"outlier shares must lie between 0 and 1, got {shares}")
        if not all(std > 0 for std in (*spreads, self.ground_error, self.ground_outlier_std)):
            raise InputError("the spreads of FusionConfig (outlier, slope, metric, ground) must be positive")
        if not 0 < low < high or self.slope_nodes < 2 or self.hidden_gain < 0 or self.ground_people < 3:
            raise InputError(
                "FusionConfig needs 0 < slope_range[0] < slope_range[1], slope_nodes of at least 2, hidden_gain of at "
                "least 0 and ground_people of at least 3"
            )

    @property
    def error_pairs(self) -> list[tuple[float, float]]:
        """Every candidate of (fit error, map error)."""
        return [(fit, depth) for fit in self.fit_errors for depth in self.map_errors]

    @property
    def error_weights(self) -> list[float]:
        """Prior weights of the pairs."""
        return [fit * depth for fit in self.fit_error_weights for depth in self.map_error_weights]


@dataclass(frozen=True)
class DTOConfig:
    """One way of running DTO."""

    preset: PresetName = "best"
    solver: SolverName = "fused"
    """``fused``: stature and depth map weighed by their errors; ``affine``: the paper's least squares, which takes the
    map at its word; ``released``: what the released code does."""
    cues: CueConfig = field(default_factory=CueConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    density: DensityConfig = field(default_factory=DensityConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    prior: PriorName = "marginal"
    """``marginal``: uncertain age and sex summed out; ``paper``: four age groups and hybrid adults; ``agnostic``: the
    same without sex (D'); ``lms``: one Gaussian at the age said."""
    focal_std: float = 0.12
    """Relative error of the focal length, which only widens ``Placement.depth_std_m``: no cue can see it, all depths
    are proportional to it. About 4 degrees of 55, as learned calibration errs; 0 for a calibrated camera."""
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
        for name, allowed in (
            ("preset", get_args(PresetName)),
            ("solver", get_args(SolverName)),
            ("prior", get_args(PriorName)),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; use one of {', '.join(allowed)}")
        low, high = self.stature_range_m
        if not 0 < low < high:
            raise InputError(f"stature_range_m must be (low, high) with 0 < low < high, got {self.stature_range_m}")

    def with_focal_std(self, focal_std: float | None) -> DTOConfig:
        """With the error that the camera's source states (``None``: it states none); the paper's presets know none."""
        return self if focal_std is None or self.focal_std == 0 else replace(self, focal_std=focal_std)


def best() -> DTOConfig:
    """The default: stature and depth map weighed against each other on robust pixel cues; nobody is dropped."""
    return DTOConfig()


def paper() -> DTOConfig:
    """The paper's text to the letter: depth at visible vertices, z* = s d + t is the person's (pelvis) depth."""
    cues = CueConfig(
        evidence="vertices", person_depth="pelvis", min_samples=1, iqr_factor=None, centre_rows=False, inlier_m=None
    )
    # All people count with their correlation, negative ones too; unknown ages do not occur in the paper.
    scale = ScaleConfig(expected_size=False, min_correlation=-1.0)
    anything = (1e-6, 1e6)
    return DTOConfig(
        "paper", "affine", cues, scale, prior="paper", focal_std=0.0, unknown_age_std_m=0.1, stature_range_m=anything,
        min_known_ages=0.0,
    )  # fmt: skip


def official() -> DTOConfig:
    """What the released code does, bugs included where they change numbers (``dto/released.py``)."""
    cues = CueConfig(min_image_fraction=1 / 400, min_visible_vertices=500 / 6890, lowest_rows=0.9)
    scale = ScaleConfig(split_far=True, high=1.0, spread="deviation", expected_size=False, min_correlation=0.5)
    return DTOConfig(
        "official", "released", cues, scale, prior="paper", focal_std=0.0, unknown_age_std_m=0.1, min_known_ages=0.0
    )


PRESETS = {"best": best, "paper": paper, "official": official}
"""The presets by name."""
