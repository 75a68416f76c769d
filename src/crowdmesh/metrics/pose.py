"""How far a pose, a surface or its keypoints are from the truth, one number a person. Units are those of the input.

Leading dimensions (``*n``) are people, in any arrangement. Means over people belong to
:class:`crowdmesh.metrics.Samples`, which merges exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int

from crowdmesh.errors import InputError
from crowdmesh.metrics._checks import finite, same_shape, truth_values

PCK_3D_THRESHOLD_M = 0.15
"""3DPCK of MPI-INF-3DHP and MuPoTS-3D (Mehta et al. 2017, 2018): half the size of a head."""

MPCKH_THRESHOLD = 0.143
"""Relative Human's mPCKh_0.6 (Sun et al. 2022): one seventh of a person's extent in the image, about 0.6 of a head."""


def root_aligned(points: Float[np.ndarray, "*n J 3"], root: int | Sequence[int] = 0) -> Float[np.ndarray, "*n J 3"]:
    """Points relative to the root: a joint, or the mean of several (e.g. both hips).

    Raises:
        InputError: NaN, a wrong shape, or a root that is no joint.
    """
    points = finite("points", points, (None, 3))
    return points - _root_of(points, root)


def joint_errors(
    predicted: Float[np.ndarray, "*n J 3"], true: Float[np.ndarray, "*n J 3"], root: int | Sequence[int] | None = None
) -> Float[np.ndarray, "*n J"]:
    """Euclidean distance of every joint, after root alignment of both sides unless ``root`` is ``None``."""
    predicted, true = finite("predicted", predicted, (None, 3)), finite("true", true, (None, 3))
    same_shape(predicted=predicted, true=true)
    if root is not None:
        predicted, true = predicted - _root_of(predicted, root), true - _root_of(true, root)
    return np.linalg.norm(predicted - true, axis=-1)


def mpjpe(
    predicted: Float[np.ndarray, "*n J 3"],
    true: Float[np.ndarray, "*n J 3"],
    root: int | Sequence[int] | None = 0,
    joints: Sequence[int] | None = None,
) -> Float[np.ndarray, "*n"]:
    """Mean per-joint position error of each person (Ionescu et al. 2014), in the unit of the input.

    Args:
        root: joint (or joints, whose mean is meant) that both sides are moved to; ``None``: absolute error.
        joints: which joints enter the mean; by default all. The root need not be among them.

    Raises:
        InputError: NaN, shapes that differ, or an index that is no joint.
    """
    return _over_joints(joint_errors(predicted, true, root), joints)


def procrustes_aligned(
    points: Float[np.ndarray, "*n J 3"], true: Float[np.ndarray, "*n J 3"]
) -> Float[np.ndarray, "*n J 3"]:
    """The points after the similarity (rotation, scale, translation) that brings them nearest to the truth.

    Least squares over rotation without reflection, scale and translation (Umeyama 1991), in float64. Degenerate input
    has a defined answer: points that all coincide, or a truth that does, end up on the mean of the truth.

    Raises:
        InputError: NaN, or shapes that differ.
    """
    points, true = finite("points", points, (None, 3)), finite("true", true, (None, 3))
    same_shape(points=points, true=true)
    if points.shape[-2] == 0:
        raise InputError("points must hold at least one joint to be aligned")
    mean = true.mean(-2, keepdims=True)
    from_points, to_points = points - points.mean(-2, keepdims=True), true - mean
    # Unit size on both sides: then nothing overflows or vanishes, and "coincident" has a scale-free meaning.
    size, wanted = _size(from_points, points), _size(to_points, true)
    from_points, to_points = from_points / _or_one(size), to_points / _or_one(wanted)
    covariance = torch.from_numpy(np.ascontiguousarray(np.swapaxes(to_points, -1, -2) @ from_points))
    rotation, singular = roma.special_procrustes(covariance, return_singular_values=True)
    scale = np.maximum(singular.numpy().sum(-1), 0.0)[..., None, None] * np.where(size > 0, wanted, 0.0)
    return scale * (from_points @ np.swapaxes(rotation.numpy(), -1, -2)) + mean


def pa_mpjpe(
    predicted: Float[np.ndarray, "*n J 3"],
    true: Float[np.ndarray, "*n J 3"],
    joints: Sequence[int] | None = None,
) -> Float[np.ndarray, "*n"]:
    """MPJPE of each person after similarity Procrustes alignment over the joints that are scored."""
    predicted, true = finite("predicted", predicted, (None, 3)), finite("true", true, (None, 3))
    same_shape(predicted=predicted, true=true)
    if joints is not None:
        chosen = _checked_joints(joints, true.shape[-2])
        predicted, true = predicted[..., chosen, :], true[..., chosen, :]
    return mpjpe(procrustes_aligned(predicted, true), true, None)


def vertex_error(
    predicted: Float[np.ndarray, "*n V 3"],
    true: Float[np.ndarray, "*n V 3"],
    predicted_root: Float[np.ndarray, "*n 3"] | None = None,
    true_root: Float[np.ndarray, "*n 3"] | None = None,
) -> Float[np.ndarray, "*n"]:
    """Mean per-vertex error of each person (PVE, MVE), in the unit of the input.

    Args:
        predicted_root, true_root: the point that either surface is measured from (root alignment); both or neither.

    Raises:
        InputError: NaN, shapes that differ, or only one root.
    """
    predicted, true = finite("predicted", predicted, (None, 3)), finite("true", true, (None, 3))
    same_shape(predicted=predicted, true=true)
    if (predicted_root is None) != (true_root is None):
        raise InputError("vertex_error needs both roots or none, else one surface alone would be moved")
    if predicted_root is not None:
        roots = finite("predicted_root", predicted_root, (3,)), finite("true_root", true_root, (3,))
        for name, root in zip(("predicted_root", "true_root"), roots, strict=True):
            if root.shape != (*true.shape[:-2], 3):
                raise InputError(
                    f"{name} must have shape {(*true.shape[:-2], 3)}, one point a person, got {root.shape}"
                )
        predicted, true = predicted - roots[0][..., None, :], true - roots[1][..., None, :]
    return _over_joints(np.linalg.norm(predicted - true, axis=-1), None)


def correct_joints(
    errors: Float[np.ndarray, "*n J"], threshold: float, counted: Bool[np.ndarray, "*n J"] | None = None
) -> tuple[Int[np.ndarray, "*n"], Int[np.ndarray, "*n"]]:
    """How many joints of each person are nearer than the threshold, and how many count at all.

    Counts are what merges exactly: a share over a data set is the ratio of their sums.

    Args:
        errors, threshold: in one unit; an error equal to the threshold is wrong.
        counted: which joints count (visible, annotated ...); by default all.
    """
    errors = finite("errors", errors, (None,))
    counted = np.ones(errors.shape, bool) if counted is None else truth_values("counted", counted, errors.shape)
    return np.asarray(((errors < threshold) & counted).sum(-1)), np.asarray(counted.sum(-1))


def pck_3d(
    predicted: Float[np.ndarray, "*n J 3"],
    true: Float[np.ndarray, "*n J 3"],
    root: int | Sequence[int] | None = 0,
    threshold_m: float = PCK_3D_THRESHOLD_M,
    joints: Sequence[int] | None = None,
) -> Float[np.ndarray, "*n"]:
    """Share of each person's joints that lie nearer than ``threshold_m`` to the truth, metres, root aligned.

    Source: 3DPCK of MPI-INF-3DHP (Mehta et al. 2017). For some joints of each person only, see
    :func:`correct_joints`.
    """
    return _over_joints((joint_errors(predicted, true, root) < threshold_m).astype(float), joints)


def mpckh(
    predicted_px: Float[np.ndarray, "*n P 2"],
    true_px: Float[np.ndarray, "*n P 2"],
    visible: Bool[np.ndarray, "*n P"],
    threshold: float = MPCKH_THRESHOLD,
) -> tuple[Int[np.ndarray, "*n"], Int[np.ndarray, "*n"]]:
    """Keypoints of each person nearer to the truth than a share of the person's extent, and keypoints that count.

    Source: "mPCKh_0.6" of Relative Human (Sun et al. 2022). The extent is the diagonal of the bounding box of the true
    visible keypoints. A person with fewer than two visible keypoints has none: 0 of 0. Where all visible keypoints
    lie on one point, none is right.
    """
    predicted_px, true_px = finite("predicted_px", predicted_px, (None, 2)), finite("true_px", true_px, (None, 2))
    same_shape(predicted_px=predicted_px, true_px=true_px)
    visible = truth_values("visible", visible, true_px.shape[:-1])
    shown, anybody = visible[..., None], np.any(visible, axis=-1, keepdims=True)
    low = np.where(anybody, np.where(shown, true_px, np.inf).min(-2, initial=np.inf), 0.0)
    high = np.where(anybody, np.where(shown, true_px, -np.inf).max(-2, initial=-np.inf), 0.0)
    extent = np.linalg.norm(high - low, axis=-1)
    measured = visible.sum(-1) >= 2
    error = np.linalg.norm(predicted_px - true_px, axis=-1)
    right = (error < threshold * extent[..., None]) & visible & measured[..., None]
    return np.asarray(right.sum(-1)), np.where(measured, visible.sum(-1), 0)


def _root_of(points: np.ndarray, root: int | Sequence[int]) -> np.ndarray:
    chosen = _checked_joints([root] if isinstance(root, (int, np.integer)) else root, points.shape[-2], "root")
    return points[..., chosen, :].mean(-2, keepdims=True)


def _checked_joints(joints: Sequence[int], count: int, name: str = "joints") -> np.ndarray:
    chosen = np.asarray(joints)
    if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
        raise InputError(f"{name} must be one joint number or several, got {joints!r}")
    if chosen.min() < 0 or chosen.max() >= count:
        raise InputError(f"{name} must be joint numbers from 0 to {count - 1}, got {joints!r}")
    return chosen


def _over_joints(errors: np.ndarray, joints: Sequence[int] | None) -> np.ndarray:
    if errors.shape[-1] == 0:
        raise InputError("the people have no joints or vertices, so there is no mean over them")
    chosen = errors if joints is None else errors[..., _checked_joints(joints, errors.shape[-1])]
    return np.asarray(chosen.mean(-1))


def _size(centred: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(*n, 1, 1) size of a point set; zero when its spread is rounding noise of the coordinates."""
    size = np.linalg.norm(centred, axis=(-2, -1), keepdims=True)
    noise = 1e-14 * np.linalg.norm(points, axis=(-2, -1), keepdims=True)
    return np.where(size > noise, size, 0.0)


def _or_one(size: np.ndarray) -> np.ndarray:
    return np.where(size > 0, size, 1.0)
