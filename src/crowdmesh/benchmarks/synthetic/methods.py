"""The methods that the synthetic benchmark compares, and every trial on the way to ``best``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from crowdmesh.dto import DensityConfig, DTOConfig, FusionConfig, ScaleConfig, best, official, paper
from crowdmesh.dto.config import PriorName


@dataclass(frozen=True)
class Method:
    """One way to place people.

    Attributes:
        name: row of the tables.
        says: what it is, for a reader.
        config: how DTO runs; ``None``: the first guess as it is.
    """

    name: str
    says: str
    config: DTOConfig | None


def _unbounded(config: DTOConfig) -> DTOConfig:
    return replace(config, scale=replace(config.scale, bounded=False, planar_rule=False))


FIRST_GUESS = Method("first guess", "each person alone, as a single-person network sees them", None)
PLUS_D = Method("+D", "inter-human depth alone: the paper's problem, the scale not bounded", _unbounded(paper()))
PLUS_D_AGNOSTIC_X = Method("+D'+X", "the paper's problem, prior without sex (D')", replace(paper(), prior="agnostic"))
PAPER = Method("paper", "+D+X: the paper's problem to the letter", paper())
OFFICIAL = Method("official", "what the released code does, bugs included", official())
BEST = Method("best", "the default: stature, depth map and ground weighed by their errors", best())

METHODS = (FIRST_GUESS, PLUS_D, PLUS_D_AGNOSTIC_X, PAPER, OFFICIAL, BEST)
"""The rows of the analogue of the paper's Tables 1, 6 and 8, in the order of the tables."""

RIVALS = (FIRST_GUESS, PAPER, OFFICIAL, BEST)
"""The rows of the smaller tables."""


@dataclass(frozen=True)
class Trial:
    """A method that was tried on the way to ``best``, and what became of it."""

    method: Method
    verdict: str


def _affine(**changes: Any) -> DTOConfig:
    """The paper's least squares on robust pixel cues: the default until this benchmark existed."""
    return replace(DTOConfig(solver="affine", prior="paper"), **changes)


def _fused(prior: PriorName = "marginal", density: DensityConfig | None = None, **fusion: Any) -> DTOConfig:
    """``best`` without the ground, changed in one point."""
    return replace(
        best(),
        prior=prior,
        density=density or DensityConfig(),
        fusion=replace(FusionConfig(ground=False), **fusion),
    )


_ONE_SIZE: dict[str, Any] = {
    "fit_errors": (0.04,), "fit_error_weights": (1.0,), "map_errors": (0.08,), "map_error_weights": (1.0,)
}  # fmt: skip
_AT_ITS_WORD: dict[str, Any] = {"map_errors": (0.01,), "map_error_weights": (1.0,), "outlier_share": 1e-6}
_ONE_GROUP = replace(official(), scale=replace(official().scale, split_far=False))


def _rejected(name: str, says: str, config: DTOConfig) -> Trial:
    return Trial(Method(name, says, config), "not kept")


TRIALS = (
    Trial(Method("affine", "least squares on robust pixel cues, slopes at expected size", _affine()), "default before"),
    _rejected("affine, marginal", "the same, uncertain age and sex summed out", _affine(prior="marginal")),
    _rejected("affine, lms", "the same, growth tables at the age said", _affine(prior="lms")),
    _rejected("affine, no upper bound", "alpha_2 is a million", _affine(scale=ScaleConfig(high=1e6))),
    _rejected("affine, no planar rule", "planar scenes as others", _affine(scale=ScaleConfig(planar_rule=False))),
    _rejected("affine, no bounds", "slopes inside bodies not used at all", _unbounded(_affine())),
    Trial(OFFICIAL, "for comparison"),
    _rejected("official, one group", "the released code, near and far not split", _ONE_GROUP),
    _rejected("fused, map at its word", "the map exact but for its transform", _fused(**_AT_ITS_WORD)),
    _rejected("fused, no outliers", "no heavy tails in the map's error", _fused(outlier_share=1e-6)),
    _rejected("fused, one error size", "4 % fit and 8 % map instead of candidates", _fused(**_ONE_SIZE)),
    _rejected("fused, hidden as sure", "hidden people fitted as well as others", _fused(hidden_gain=0.0)),
    _rejected("fused, depth model", "depth affine in 1 / disparity", _fused(disparity_model="depth")),
    _rejected("fused, flat bend", "nothing assumed of the map's shift", _fused(slope_log_std=2.0)),
    _rejected("fused, paper prior", "four age groups, hybrid adults", _fused("paper")),
    _rejected("fused, lms prior", "one Gaussian at the age said", _fused("lms")),
    _rejected("fused, agnostic prior", "age groups without sex", _fused("agnostic")),
    _rejected(
        "fused, hybrid adults", "the first guess counts half", _fused(density=DensityConfig(first_guess_weight=0.5))
    ),
    _rejected("fused, ages trusted", "no age is plainly wrong", _fused(density=DensityConfig(gross_age_share=0.0))),
    Trial(Method("fused", "stature and map weighed by their errors, no ground", _fused()), "kept"),
    Trial(Method("best", "the same, with feet on a common ground", best()), "kept"),
)
"""Every trial on the way to ``best``."""
