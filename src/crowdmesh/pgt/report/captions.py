"""What the figures of a report show, in words: every figure says its numbers, also where it has none."""

from __future__ import annotations

import math

from crowdmesh.pgt.report.histogram import Histogram
from crowdmesh.pgt.report.population import distance_m, population
from crowdmesh.pgt.report.statistics import Statistics

NARROW_BAND_M = (1.6, 1.8)
"""Where the paper finds the statures of its input heavily concentrated (section 7)."""

MOST_SCORE = 5.0
"""Where the figure of scores ends."""


def people(statistics: Statistics) -> str:
    """The caption on people per image (paper's Figure 6)."""
    if not statistics.accepted:
        return "No image was accepted, so there is nobody to count."
    values = statistics.people_per_image
    return (
        f"{_of(statistics.crowds, statistics.accepted, 'accepted images')} show ten or more people; on average there "
        f"are {values.mean:.1f} in an image, in the middle one {math.floor(values.quantile(0.5) + 0.5)}. "
        "Paper's Figure 6."
    )


def fields_of_view(statistics: Statistics) -> str:
    """The caption on fields of view (paper's Figure 7)."""
    values = statistics.fov_deg
    if not values.known:
        return "No accepted image has a camera, so there is no field of view to show."
    low, middle, high = (values.quantile(share) for share in (0.05, 0.5, 0.95))
    return (
        f"Vertical, of the whole image: half of the images lie below {middle:.0f}°, nine of ten between {low:.0f}° and "
        f"{high:.0f}°. Paper's Figure 7."
    )


def statures(statistics: Statistics, truth: Histogram | None) -> str:
    """The caption on statures (paper's Figure 8)."""
    before, after = statistics.stature_before_m, statistics.stature_m
    if not after.known:
        return "No image was accepted, so there is no stature to show."
    inside = [f"{100 * values.share(*NARROW_BAND_M):.0f} %" for values in (before, after)]
    text = (
        f"The same people of accepted images before and after. Mean and spread: {before.mean:.2f} ± {before.std:.2f} m "
        f"before, {after.mean:.2f} ± {after.std:.2f} m after; between {NARROW_BAND_M[0]} and {NARROW_BAND_M[1]} m "
        f"stand {inside[0]} before, {inside[1]} after. Their distance from the dashed curve, a population of uniform "
        f"ages and both sexes, is {_distances(before, after, population(after.edges))}."
    )
    if truth is not None:
        text += f" Their distance from the truth is {_distances(before, after, truth.shares()[1])}."
    return (
        f"{text} (Distance: how far everybody would have to be moved, on average, to make one distribution the other.) "
        "Paper's Figure 8."
    )


def minors(statistics: Statistics) -> str:
    """The caption on minors and their priors (paper's Figure 5)."""
    groups = statistics.minors.values()
    if not any(values.known for values in groups):
        return "Nobody of the accepted images is known to be a minor, so there is nothing to hold against the priors."
    return (
        f"Statures after, of {sum(values.known for values in groups):,} people of accepted images whose apparent age "
        "is below 15 years. Dashed: growth charts, uniform ages within the group. Line: the Gaussian the paper gives "
        "for the group. Paper's Figure 5."
    )


def ages(statistics: Statistics) -> str:
    """The caption on ages."""
    values = statistics.age_years
    if not values.known:
        return "The age of nobody in the accepted images is known."
    unknown = f"; the age of {values.unknown:,} people is unknown" if values.unknown else ""
    return (
        f"{_of(statistics.minor_count, values.known, 'people of known age')} are minors, that is younger than 15 "
        f"years{unknown}. The paper counts 6.2 % in its set; of uniform ages from 0 to 80 years it would be 18.8 %."
    )


def scores(statistics: Statistics, threshold: float | None) -> str:
    """The caption on the scores of images."""
    values = statistics.scores
    if not values.known:
        return "No image has a score: nobody was placed together with others."
    text = (
        f"{_of(values.known, statistics.images, 'images')} have a score; the middle one is {values.quantile(0.5):.2f}."
    )
    if threshold is not None:
        share = f"{100 * values.share(0.0, threshold):.0f} %"
        text += f" Below the threshold of {threshold:g} lie {share} of them."
    beyond = values.known - int(values.counts[values.edges[1:] <= MOST_SCORE].sum())
    if beyond:
        text += f" {beyond:,} lie beyond {MOST_SCORE:g} and are not in the picture."
    return text


def residuals(statistics: Statistics) -> str:
    """The caption on the residuals of people."""
    values = statistics.residuals
    if not values.known:
        return "Nobody of the accepted images was placed, so there are no residuals."
    return (
        "How far the stature that the depths ask for lies from what age and sex suggest, in standard deviations: mean "
        f"{values.mean:+.2f}, spread {values.std:.2f}, of {values.known:,} placed people of accepted images. Were the "
        "priors right and the depths exact, it would be the dashed curve."
    )


def depths(statistics: Statistics) -> str:
    """The caption on depths."""
    values = statistics.depth_m
    if not values.known:
        return "No image was accepted, so there is no distance to show."
    low, middle, high = (values.quantile(share) for share in (0.05, 0.5, 0.95))
    return (
        f"People of accepted images. After: half stand nearer than {middle:.1f} m, nine of ten between {low:.1f} and "
        f"{high:.1f} m; before, half stood nearer than {statistics.depth_before_m.quantile(0.5):.1f} m."
    )


def _distances(before: Histogram, after: Histogram, other) -> str:
    one, two = (100 * distance_m(values.shares()[1], other, values.edges) for values in (before, after))
    return f"{one:.1f} cm before and {two:.1f} cm after"


def _of(count: int, whole: int, what: str) -> str:
    """``"3 of 40 images (8 %)"``."""
    share = f" ({100 * count / whole:.1f} %)" if whole else ""
    return f"{count:,} of {whole:,} {what}{share}"
