"""What the depth map says about each person (paper 3.2.2; steps 5-7 of the release), as grouped sums.

Everybody is rendered once into one z-buffer, each person confined to their own mask; the samples of all people then
pass through one sequence of segment-wise operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from crowdmesh.body import BodyModel
from crowdmesh.depth import DepthKind, RelativeDepth, usable_depth
from crowdmesh.dto.config import CueConfig
from crowdmesh.errors import InputError
from crowdmesh.people import PersonStatus
from crowdmesh.raster import ZBuffer, rasterize, visible_vertices
from crowdmesh.scene import Scene

_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Cues:
    """Depth evidence of K people. Relative depth is larger = farther whatever the map's kind.

    Attributes:
        relative_depth: (K,) robust mean d of the map on the person; 0 without evidence.
        depth_m: (K,) the person's initial depth z that belongs to d (see ``CueConfig.person_depth``).
        spread: (K,) standard deviation of the relative depth inside the person.
        slope: (K,) metres per unit of relative depth inside the person (the paper's X_i).
        correlation: (K,) correlation of that fit (w_i).
        samples: (K,) valid samples used.
        excluded: (K,) samples without a usable depth: zero, NaN, infinite or, for disparity and metric, negative.
        status: (K,) INITIAL where there is evidence, else why there is none.
        visible_share: (K,) share of the body, 0 to 1, that neither others nor the image border nor the own mask hide:
            of its vertices, how many project onto pixels that show it.
        lowest_relative_depth, lowest_depth_m: (K,) the same means over the lowest rows; ``None`` unless asked for.
    """

    relative_depth: Float[np.ndarray, " K"]
    depth_m: Float[np.ndarray, " K"]
    spread: Float[np.ndarray, " K"]
    slope: Float[np.ndarray, " K"]
    correlation: Float[np.ndarray, " K"]
    samples: Int[np.ndarray, " K"]
    excluded: Int[np.ndarray, " K"]
    status: Int[np.ndarray, " K"]
    visible_share: Float[np.ndarray, " K"]
    lowest_relative_depth: Float[np.ndarray, " K"] | None = None
    lowest_depth_m: Float[np.ndarray, " K"] | None = None

    @property
    def evident(self) -> np.ndarray:
        """(K,) bool: people with depth evidence."""
        return self.status == PersonStatus.INITIAL


@dataclass(frozen=True, eq=False)
class _Samples:
    """N samples ordered by person: who, image row, relative depth, metric depth of the body there."""

    person: np.ndarray
    row: np.ndarray
    relative: np.ndarray
    metres: np.ndarray

    def where(self, keep: np.ndarray) -> _Samples:
        """Some of the samples."""
        return _Samples(self.person[keep], self.row[keep], self.relative[keep], self.metres[keep])


def measure(scene: Scene, depth: RelativeDepth, body: BodyModel, config: CueConfig | None = None) -> Cues:
    """Measure every person's depth cues.

    Args:
        scene: people with ``vertices_m``; masks, where present, confine each person.
        depth: the map, of the image's aspect ratio but of any resolution.
        body: the people's body model (for its faces and pelvis).

    Raises:
        InputError: the depth map's aspect ratio is not the image's.
    """
    config = config or CueConfig()
    people, camera = scene.people, scene.camera
    _check_aspect(depth, camera.width, camera.height)
    if people.vertices_m is None:
        raise InputError("people have no vertices; pose them first with crowdmesh.body.pose_people")
    count = len(people)
    shrink = min(1.0, config.raster_long_side / max(camera.width, camera.height))
    height, width = max(1, round(camera.height * shrink)), max(1, round(camera.width * shrink))
    K = camera.scaled(width, height).K
    vertices = torch.from_numpy(people.vertices_m)
    masks = None if people.masks is None else torch.from_numpy(people.masks.to_dense((height, width)))
    buffer = rasterize(vertices, body.faces, K, (height, width), masks)

    by_pixel = _pixel_samples(buffer, depth)
    seen = np.bincount(by_pixel.person, minlength=count)
    samples = by_pixel
    fewest = max(config.min_samples, config.min_image_fraction * height * width)
    hidden = np.zeros(count, bool)
    if config.evidence == "vertices" or config.min_visible_vertices > 0:
        visible = visible_vertices(buffer, vertices, K).numpy()
        hidden = visible.sum(1) < config.min_visible_vertices * visible.shape[1]
        if config.evidence == "vertices":
            fewest = config.min_samples
            samples = _vertex_samples(visible, people.vertices_m, K, (height, width), depth)
    shown = visible_vertices(buffer, vertices, K, tolerance_m=np.inf).numpy().mean(1, dtype=float)
    cues = _summarise(samples, depth.kind, shown, height, fewest, config)
    status = np.where(hidden & (cues.status == 0), PersonStatus.KEPT_FEW_PIXELS, cues.status)
    status = np.where(seen == 0, PersonStatus.KEPT_NOT_VISIBLE, status)
    depth_m = person_depth(scene, body) if config.person_depth == "pelvis" else cues.depth_m
    return Cues(**{**vars(cues), "status": status, "depth_m": depth_m})


def person_depth(scene: Scene, body: BodyModel) -> Float[np.ndarray, " K"]:
    """Depth of each pelvis (camera z, metres); of the centroid for bodies without joints."""
    people = scene.people
    if body.pelvis is not None and people.joints_m is not None:
        return people.joints_m[:, body.pelvis, 2].astype(float)
    assert people.vertices_m is not None
    return people.vertices_m[..., 2].mean(1, dtype=float)


def _check_aspect(depth: RelativeDepth, width: int, height: int) -> None:
    rows, columns = depth.size
    if abs(columns * height / (rows * width) - 1) > _ASPECT_TOLERANCE and abs(columns - rows * width / height) > 1:
        raise InputError(
            f"the depth map is {columns}x{rows} but the image {width}x{height}: give the depth of the same, uncropped "
            "image (any resolution, same aspect ratio)"
        )


def _pixel_samples(buffer: ZBuffer, depth: RelativeDepth) -> _Samples:
    """One sample per pixel on which somebody is seen."""
    height, width = buffer.depth.shape
    person = buffer.person.numpy().ravel()
    pixels = np.flatnonzero(person >= 0)
    # Order by person; a stable sort of 16-bit keys is a radix sort.
    pixels = pixels[np.argsort(person[pixels].astype(np.uint16), kind="stable")]
    row, column = np.divmod(pixels, width)
    return _Samples(
        person[pixels].astype(np.int64),
        row,
        _look_up(depth, (row + 0.5) / height, (column + 0.5) / width),
        buffer.depth.numpy().ravel()[pixels].astype(float),
    )


def _vertex_samples(
    visible: np.ndarray, vertices_m: np.ndarray, K: np.ndarray, size: tuple[int, int], depth: RelativeDepth
) -> _Samples:
    """One sample per visible vertex, at the centre of the z-buffer pixel it falls into.

    That pixel was checked against the person's mask; the exact position may lie just off the silhouette.
    """
    person, vertex = np.nonzero(visible)
    x, y, z = vertices_m[person, vertex].astype(float).T
    # Visibility was decided in single precision: on the last pixel the two roundings may differ.
    row = np.floor(y / z * K[1, 1] + K[1, 2]).astype(np.int64).clip(0, size[0] - 1)
    column = np.floor(x / z * K[0, 0] + K[0, 2]).astype(np.int64).clip(0, size[1] - 1)
    return _Samples(person, row, _look_up(depth, (row + 0.5) / size[0], (column + 0.5) / size[1]), z)


def _look_up(depth: RelativeDepth, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Depth values at relative image positions (0 ... 1), nearest pixel."""
    rows, columns = depth.size
    row = np.minimum((v * rows).astype(np.int64), rows - 1)
    column = np.minimum((u * columns).astype(np.int64), columns - 1)
    return depth.values[row, column].astype(float)


def _summarise(
    samples: _Samples, kind: DepthKind, shown: np.ndarray, height: int, fewest: float, config: CueConfig
) -> Cues:
    """Filter the samples and reduce them to one row of numbers per person; ``shown`` (K,) is their visible share."""
    count = len(shown)
    taken = np.bincount(samples.person, minlength=count)
    samples = samples.where(usable_depth(samples.relative, kind))
    valid = np.bincount(samples.person, minlength=count)
    if kind == "disparity":
        samples = _Samples(samples.person, samples.row, 1.0 / samples.relative, samples.metres)
    if config.iqr_factor is not None:
        samples = samples.where(_inside_quartiles(samples, count, config.iqr_factor))
    slope, correlation, deviation = _fit_slope(samples, count, height, config.centre_rows)
    enough = np.bincount(samples.person, minlength=count)
    if config.inlier_m is not None:
        samples = samples.where(np.abs(deviation) <= config.inlier_m)
    used = np.bincount(samples.person, minlength=count)
    relative, metres = (_group_mean(samples.person, v, count) for v in (samples.relative, samples.metres))
    variance = _group_mean(samples.person, (samples.relative - relative[samples.person]) ** 2, count)
    status = np.where(
        valid == 0,
        PersonStatus.KEPT_NO_DEPTH,
        np.where((enough < fewest) | (used == 0), PersonStatus.KEPT_FEW_PIXELS, 0),
    )
    lowest: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    if config.lowest_rows is not None:
        low = samples.where(_in_lowest_rows(samples, count, config.lowest_rows))
        lowest = (_group_mean(low.person, low.relative, count), _group_mean(low.person, low.metres, count))
    return Cues(relative, metres, np.sqrt(variance), slope, correlation, used, taken - valid, status, shown, *lowest)


def _fit_slope(
    samples: _Samples, count: int, height: int, centre_rows: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per person: slope and correlation of metric on relative depth; per sample: deviation from that line (metres)."""
    group = samples.person * height + samples.row if centre_rows else samples.person
    groups = count * height if centre_rows else count
    d = samples.relative - _group_mean(group, samples.relative, groups)[group]
    z = samples.metres - _group_mean(group, samples.metres, groups)[group]
    person = samples.person
    dd, dz, zz = (np.bincount(person, v, count) for v in (d * d, d * z, z * z))
    # Spread at the level of rounding (a flat map) determines no slope.
    scale = np.bincount(person, samples.relative**2, count)
    flat = dd <= 1e-20 * scale
    slope = np.where(flat, 0.0, dz / np.where(flat, 1.0, dd))
    norm = np.sqrt(dd * zz)
    correlation = np.where(flat | (norm == 0), 0.0, dz / np.where(norm == 0, 1.0, norm))
    return slope, np.clip(correlation, -1.0, 1.0), z - slope[person] * d


def _inside_quartiles(samples: _Samples, count: int, factor: float) -> np.ndarray:
    """Samples whose depth lies within the quartiles widened by ``factor`` interquartile ranges."""
    quartiles = np.zeros((2, count))
    for person, segment in _segments(samples, count):
        quartiles[:, person] = np.quantile(samples.relative[segment], (0.25, 0.75))
    reach = factor * (quartiles[1] - quartiles[0])
    low, high = quartiles[0] - reach, quartiles[1] + reach
    return (samples.relative >= low[samples.person]) & (samples.relative <= high[samples.person])


def _in_lowest_rows(samples: _Samples, count: int, quantile: float) -> np.ndarray:
    threshold = np.zeros(count)
    for person, segment in _segments(samples, count):
        threshold[person] = np.quantile(samples.row[segment], quantile)
    return samples.row >= threshold[samples.person]


def _segments(samples: _Samples, count: int) -> list[tuple[int, slice]]:
    """The non-empty runs of samples, person by person."""
    edges = np.searchsorted(samples.person, np.arange(count + 1))
    return [(k, slice(edges[k], edges[k + 1])) for k in range(count) if edges[k + 1] > edges[k]]


def _group_mean(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    """Mean per group; 0 for empty groups."""
    return np.bincount(group, values, groups) / np.maximum(np.bincount(group, minlength=groups), 1)
