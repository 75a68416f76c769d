"""The simulated experts one by one, on hand-made input whose right answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.synth._simulated_depth import simulated_depth
from crowdmesh.synth._simulated_evidence import (
    boxes_of,
    face_width_px,
    simulated_attributes,
    simulated_keypoints,
    simulated_masks,
)
from crowdmesh.synth._simulated_hmr import wrong_camera
from crowdmesh.synth.expert_errors import (
    STRENGTHS,
    AttributeErrors,
    DepthErrors,
    ExpertErrors,
    HmrErrors,
    MaskErrors,
    exact,
    nominal,
    strong,
)

# Ages, sexes, camera


def attribute_errors(errors: AttributeErrors, age: np.ndarray, face_px: float) -> tuple[float, float]:
    """Mean error of age, accuracy of sex."""
    male = (np.arange(len(age)) % 2).astype(float)
    said_age, said_male = simulated_attributes(age, male, np.full(len(age), face_px), errors, np.random.default_rng(0))
    said = np.isfinite(said_age)
    np.testing.assert_array_equal(said, np.isfinite(said_male))
    assert ((said_male[said] >= 0) & (said_male[said] <= 1)).all() and (said_age[said] >= 0).all()
    return float(np.abs(said_age - age)[said].mean()), float(((said_male > 0.5) == (male > 0.5))[said].mean())


def test_ages_and_sexes_err_more_without_a_face_and_with_strength():
    age = np.tile(np.linspace(12.0, 80.0, 100), 100)
    figures = {
        name: (*attribute_errors(make().attributes, age, 60.0), *attribute_errors(make().attributes, age, 0.0))
        for name, make in STRENGTHS.items()
    }
    by_strength = np.array(list(figures.values()))
    assert (np.diff(by_strength[:, [0, 2]], axis=0) > 0).all() and (np.diff(by_strength[:, [1, 3]], axis=0) < 0).all()
    assert (by_strength[:, 0] < by_strength[:, 2]).all() and (by_strength[:, 1] > by_strength[:, 3]).all()
    with_face, sex_from_face, without, sex_from_body = figures["nominal"]
    assert 4.0 < with_face < 6.0 and 6.5 < without < 9.0
    assert abs(sex_from_face - 0.975) < 0.01 and abs(sex_from_body - 0.93) < 0.01


def test_children_are_harder_to_sex_and_probabilities_are_calibrated():
    errors = AttributeErrors()
    assert abs(attribute_errors(errors, np.full(10_000, 6.0), 60.0)[1] - errors.child_sex_accuracy) < 0.015
    male = (np.arange(20_000) % 2).astype(float)
    _, said = simulated_attributes(np.full(20_000, 6.0), male, np.full(20_000, 60.0), errors, np.random.default_rng(1))
    assert abs(np.maximum(said, 1.0 - said).mean() - errors.child_sex_accuracy) < 0.015


def test_ages_are_missing_only_without_a_face_and_small_faces_are_none():
    errors = replace(AttributeErrors(), missing_share=1.0)
    face_px = np.array([60.0, errors.small_face_px + 0.1, errors.small_face_px, 0.0])
    age, male = simulated_attributes(np.full(4, 40.0), np.ones(4), face_px, errors, np.random.default_rng(0))
    assert np.isfinite(age).tolist() == np.isfinite(male).tolist() == [True, True, False, False]


def test_the_focal_length_comes_out_long_and_is_about_as_wrong_as_documented():
    camera = Camera.from_vertical_fov(np.radians(55.0), 640, 480)
    random = np.random.default_rng(0)
    factor = np.array([wrong_camera(camera, HmrErrors(), random).fx / camera.fx for _ in range(2000)])
    assert abs(np.median(factor) - 1.04) < 0.01 and abs(np.log(factor).std() - 0.10) < 0.01


# The depth map, in a hand-made place: a camera 1.5 m above level ground, a wall at 20 m, flat people


CAMERA = Camera.from_vertical_fov(np.radians(60.0), 80, 60)
LEVEL = np.array([0.0, -1.0, 0.0, 1.5])
NEAR, BEHIND, ALONE, FLYING = range(4)


def place() -> tuple[np.ndarray, np.ndarray]:
    """Metric depth and labels: one person half behind another, one alone, one whose feet are 1 m above the ground."""
    v = (np.arange(60) + 0.5 - CAMERA.cy) / CAMERA.fy
    metres = np.minimum(np.where(v > 1e-6, 1.5 / np.maximum(v, 1e-6), np.inf), 20.0)[:, None].repeat(80, 1)
    labels = np.where(metres >= 20.0, -2, -1)
    for k, depth, rows, columns in (
        (BEHIND, 6.0, slice(22, 44), slice(8, 20)),
        (NEAR, 3.0, slice(15, 55), slice(15, 25)),
        (ALONE, 5.0, slice(20, 46), slice(40, 46)),
        (FLYING, 4.0, slice(14, 37), slice(60, 68)),
    ):
        metres[rows, columns], labels[rows, columns] = depth, k
    return metres, labels


def levels(errors: DepthErrors, airborne: bool = False, seed: int = 0) -> np.ndarray:
    """Depth that the map gives each of the four people, metres: the true one where nothing errs."""
    metres, labels = place()
    in_air = np.array([False, False, False, airborne])
    depth = simulated_depth(metres, labels, in_air, CAMERA, LEVEL, errors, np.random.default_rng(seed))
    return np.array([500.0 / np.median(depth.values[labels == k]) for k in range(4)])


def test_bleeding_draws_the_hidden_person_forward_and_nobody_else():
    np.testing.assert_allclose(levels(exact().depth), [3.0, 6.0, 5.0, 4.0], rtol=1e-5)
    bled = np.array([levels(replace(exact().depth, bleed_share=1.0), seed=seed) for seed in range(10)])
    np.testing.assert_allclose(bled[:, [NEAR, ALONE, FLYING]], np.tile([3.0, 5.0, 4.0], (10, 1)), rtol=1e-5)
    # Between three tenths of the way, in inverse depth, and all of it.
    assert (bled[:, BEHIND] < 1.0 / (0.7 / 6.0 + 0.3 / 3.0) + 1e-3).all() and (bled[:, BEHIND] > 3.0 - 1e-3).all()
    assert np.ptp(bled[:, BEHIND]) > 0.2


def test_flattening_pushes_people_back_but_never_beyond_three_times_their_depth():
    flat = np.array([levels(replace(exact().depth, flatten_share=1.0), seed=seed) for seed in range(10)])
    true = np.array([3.0, 6.0, 5.0, 4.0])
    assert (flat > 1.02 * true).all() and (flat <= 3.0001 * true).all()
    some = np.array([levels(replace(exact().depth, flatten_share=0.5), seed=seed) for seed in range(40)])
    assert 0.3 < (some > 1.02 * true).mean() < 0.7


def test_the_airborne_are_read_at_the_depth_of_the_ground_below():
    errors = replace(exact().depth, airborne_share=1.0)
    lowest = (36.5 - CAMERA.cy) / CAMERA.fy  # the ray of the feet meets the ground at:
    ground_m = 1.5 / lowest
    np.testing.assert_allclose(levels(errors), [3.0, 6.0, 5.0, 4.0], rtol=1e-5)
    read = np.array([levels(errors, airborne=True, seed=seed) for seed in range(10)])
    np.testing.assert_allclose(read[:, :FLYING], np.tile([3.0, 6.0, 5.0], (10, 1)), rtol=1e-5)
    half_way_m = 1.0 / (0.5 / 4.0 + 0.5 / ground_m)
    farthest_m = min(ground_m, 3.0 * 4.0)
    assert (read[:, FLYING] > half_way_m - 1e-3).all() and (read[:, FLYING] < farthest_m + 1e-3).all()


def test_the_shift_moves_all_disparities_alike_and_the_trend_makes_the_upper_part_farther():
    metres, labels = place()

    def run(**errors):
        return simulated_depth(
            metres, labels, np.zeros(4, bool), CAMERA, LEVEL, replace(exact().depth, **errors), np.random.default_rng(0)
        ).values.astype(float)

    plain, shifted, tilted = run(), run(shift_to_farthest=0.5), run(vertical_std=0.2)
    # The wall at 20 m reads 25 and is the farthest surface.
    np.testing.assert_allclose(plain - shifted, 12.5, atol=1e-3)
    ratio = tilted / plain
    assert (np.diff(ratio[:, 0]) > 0).all() and ratio[0, 0] < 1.0 < ratio[-1, 0]


def test_a_map_never_loses_everybody_to_its_shift():
    """However large the shift, something reads positive, and no value is negative or NaN."""
    metres, labels = place()
    errors = replace(strong().depth, shift_std=5.0)
    for seed in range(30):
        values = simulated_depth(
            metres, labels, np.zeros(4, bool), CAMERA, LEVEL, errors, np.random.default_rng(seed)
        ).values
        assert np.isfinite(values).all() and (values >= 0).all() and (values[labels >= 0] > 0).any()


# Masks, keypoints, boxes


def test_masks_shrink_lose_a_side_or_swallow_a_neighbour():
    masks = np.zeros((3, 60, 80), bool)
    masks[0, 10:50, 10:30], masks[1, 10:50, 30:50], masks[2, 10:50, 60:75] = True, True, True
    none = MaskErrors(0.0, 0.0, 0.0, 1, 0.0)

    def run(**errors):
        return simulated_masks(masks, replace(none, **errors), np.random.default_rng(0))

    np.testing.assert_array_equal(run(), masks)
    merged, cut = run(merge_share=1.0), run(cut_share=1.0)
    assert (
        (merged & masks)[:2].sum() == masks[:2].sum() and (merged[0] & masks[1]).any() and (merged[1] & masks[0]).any()
    )
    np.testing.assert_array_equal(merged[2], masks[2])
    assert not (cut & ~masks).any()
    kept = cut.sum((1, 2)) / masks.sum((1, 2))
    assert (kept > 0.35).all() and (kept < 0.85).all()
    eroded = [simulated_masks(masks, replace(none, erode=0.03), np.random.default_rng(seed)) for seed in range(20)]
    size = np.array([mask.sum((1, 2)) for mask in eroded]) / masks.sum((1, 2))
    assert size.mean() < 0.95 and (size < 1.0).mean() > 0.7 and (size > 1.0).any()


def test_small_and_empty_masks_survive_every_error():
    masks = np.zeros((4, 30, 40), bool)
    masks[0, 3, 4], masks[1, 3, 5], masks[2, 29, 39] = True, True, True
    for seed in range(10):
        seen_masks = simulated_masks(masks, MaskErrors(0.1, 1.0, 1.0), np.random.default_rng(seed))
        assert seen_masks.any((1, 2)).tolist() == [True, True, True, False]
    # A head with a long tail: erosion takes the tail, a cut the head.
    comet = np.zeros((1, 30, 90), bool)
    comet[0, 10:15, 5:10], comet[0, 12, 10:70] = True, True
    for seed in range(40):
        assert simulated_masks(comet, MaskErrors(0.02, 0.0, 1.0), np.random.default_rng(seed)).any()
    np.testing.assert_array_equal(boxes_of(masks), [[4, 3, 5, 4], [5, 3, 6, 4], [39, 29, 40, 30], [0, 0, 0, 0]])


def test_hidden_keypoints_err_more_and_are_trusted_less():
    keypoints = np.zeros((2000, 17, 3))
    keypoints[..., 2] = 1.0
    keypoints[:, 9:, 2] = 0.5
    boxes = np.tile([0.0, 0.0, 30.0, 40.0], (2000, 1))
    said = simulated_keypoints(keypoints, boxes, nominal().keypoints, np.random.default_rng(0))
    spread = said[..., :2].std((0, 2))
    np.testing.assert_allclose(spread[:9], 0.01 * 50.0, rtol=0.1)
    np.testing.assert_allclose(spread[9:], 4 * 0.01 * 50.0, rtol=0.1)
    assert (
        said[:, :9, 2].min() > 0 and said[:, :9, 2].mean() > 1.5 * said[:, 9:, 2].mean() and said[..., 2].max() <= 1.0
    )


def test_a_face_is_as_wide_as_the_camera_says_and_zero_from_behind():
    keypoints = np.zeros((3, 17, 3))
    keypoints[:, :3, 2] = [[1.0, 0.5, 1.0], [0.5, 1.0, 1.0], [1.0, 0.5, 0.5]]
    width = face_width_px(keypoints, np.array([3.0, 3.0, 3.0]), CAMERA)
    np.testing.assert_allclose(width, [CAMERA.fx * 0.15 / 3.0, 0.0, 0.0])


# Refusals


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("hmr", {"pose_deg": -1.0}),
        ("hmr", {"focal_bias": -1.0}),
        ("hmr", {"stature_mean_m": float("nan")}),
        ("depth", {"bleed_share": 1.5}),
        ("depth", {"far_m": (0.0, 10.0)}),
        ("depth", {"far_m": (20.0, 10.0)}),
        ("depth", {"blur": float("inf")}),
        ("masks", {"fewest_px": 0}),
        ("attributes", {"sex_accuracy": (0.9, 1.1)}),
    ],
)
def test_impossible_errors_are_refused_by_name(part, change):
    with pytest.raises(InputError, match=f"{part}.{next(iter(change))}"):
        ExpertErrors(**{part: replace(getattr(nominal(), part), **change)})
