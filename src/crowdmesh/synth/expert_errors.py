"""How wrong upstream estimators are: every error that the simulated experts make, its strength and where it comes from.

The figures were fixed before any placement method was compared on them. "Reported" figures are those of the named
publications; where nobody reports one, the value is our assumption and says so. Three presets span the range:
``mild``, ``nominal`` (after what is reported for the strongest published models) and ``strong``. "Measured" figures
are what ``nominal`` gives on the detected people of 60 scenes of the preset ``mixed``, mean of two seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from crowdmesh.errors import InputError


@dataclass(frozen=True)
class HmrErrors:
    """A single-person mesh network: every crop looks like an adult, and depth follows from that stature."""

    stature_mean_m: float = 1.70
    """What the network believes of everybody. CameraHMR's estimates crowd between 1.6 and 1.8 m (paper fig. 8)."""
    stature_follow: float = 0.15
    """Share of a person's true deviation from that mean which the network sees (assumed; 0 would be blind)."""
    stature_std_m: float = 0.045
    """Scatter of the estimated stature; measured with the mean: adults are off by 8 cm in full view, 10 cm overall
    (the paper's table 5 has 4 to 11 cm)."""
    crouch_bias_m: float = 0.06
    """How much shorter somebody who lies flat comes out, others in proportion to how little upright they are (paper
    fig. 11: underestimated unless standing; the size is assumed)."""
    pose_deg: float = 6.5
    """Standard deviation of each main joint's rotation. Measured PA-MPJPE of adults over 14 main joints: 40 mm in full
    view, 59 mm overall, 11 mm of it because builds differ (strong networks report about 40 mm on 3DPW: table 2)."""
    orientation_deg: float = 4.5
    """Standard deviation of the root rotation. Measured MPJPE with the pose: 71 mm in full view, 99 mm overall (strong
    networks report about 60 mm on 3DPW, 80 to 120 mm on CMU Panoptic: table 2)."""
    depth_std: float = 0.03
    """Relative error of depth for a given stature: how well the projected size fits the image (assumed: 1-2 px of
    50)."""
    occlusion_gain: float = 2.0
    """All of a person's errors grow by 1 + gain * (hidden share), those of the pose at most twofold: occluded crops are
    fitted worse (assumed)."""
    focal_std: float = 0.10
    """Relative error of the focal length, one for the whole image. Measured with the bias: 3.5 degrees of vertical FoV
    in the mean, the order that learned calibration reports."""
    focal_bias: float = 0.04
    """Median relative error: the FoV loss punishes overestimates three times, so focal lengths come out long (paper
    eq. 4, section 6.3)."""


@dataclass(frozen=True)
class DepthErrors:
    """A monocular relative-depth network: disparity with unknown scale and shift."""

    far_m: tuple[float, float] = (5.0, 20.0)
    """Range (log-uniform) of the distance at which the map reads 50 before its shift. The released code calls people
    beyond 50 raw units far (spec: 1 / 0.02), so its thresholds mean here what they mean there."""
    shift_to_farthest: float = 0.4
    """Mean of the shift, as a share of the disparity of the farthest surface, subtracted: maps are rectified and read
    zero at the sky and next to nothing at the farthest things in view (assumed)."""
    shift_std: float = 0.10
    """Standard deviation of the shift over the people's median disparity (affine-invariant training leaves it free;
    the size is assumed)."""
    vertical_std: float = 0.05
    """Scale (half-normal) of a log-linear trend over the image height: higher up means farther (paper section 10)."""
    local_std: float = 0.05
    """Smooth relative error over the image. Depth Anything V2 reports relative errors of 4.5 to 13 % after alignment.
    Measured with all other errors, per person, after the best affine fit in inverse depth over an image's people: 7 %
    in the median, 10 % in the mean."""
    person_std: float = 0.05
    """Relative error that a whole person shares (assumed)."""
    relief: tuple[float, float] = (1.0, 0.25)
    """Mean and standard deviation of the factor on a body's own depth relief (assumed unbiased: the paper finds the
    slope inside bodies a useful lower bound, which it would not be if networks flattened bodies as a rule)."""
    flatten_share: float = 0.05
    """Share of people who are partly flattened into what is behind them (paper fig. 12, bottom row; the size of this
    and the next two is assumed). Neither this nor being in the air makes anybody more than three times as far."""
    bleed_share: float = 0.15
    """Share of partly hidden people who take on the depth of the one in front, in part (paper fig. 12, top row)."""
    airborne_share: float = 0.5
    """Share of people in the air who are read, half to wholly, at the depth of the ground seen below them, or of what
    is behind them above the horizon (fig. 12, middle row)."""
    blur: float = 0.004
    """Blur at silhouettes: standard deviation over the long image side (maps come from 518-pixel networks)."""
    pixel_std: float = 0.005
    """Relative error of single pixels (assumed)."""


@dataclass(frozen=True)
class MaskErrors:
    """An instance segmenter."""

    erode: float = 0.006
    """Mean shrinkage over the box's diagonal; negative draws grow (assumed: one to two pixels of 250). Measured IoU
    with all errors of masks: 0.82 in the mean, 0.87 in the median."""
    merge_share: float = 0.04
    """Share of people whose mask swallows part of a touching neighbour (assumed)."""
    cut_share: float = 0.06
    """Share of people whose mask loses a part of the body (assumed)."""
    fewest_px: int = 100
    """People who show fewer pixels are not detected; neither are those below the next share (assumed). Measured: 20 %
    of all people stay undetected at every strength, most of them in crowds."""
    fewest_share: float = 0.10
    """Least visible share of the silhouette inside the image that is detected."""


@dataclass(frozen=True)
class AttributeErrors:
    """An age and sex estimator working on face and body."""

    age_std_years: float = 0.5
    """Standard deviation of the age of a newborn."""
    age_std_share: float = 0.11
    """Growth of that deviation with age. Measured mean error where a face is seen: 4.6 years; MiVOLO reports 3.7 to
    4.1."""
    faceless_gain: float = 1.7
    """Factor without a face. Measured mean error: 6.3 years; MiVOLO reports 6 to 7 for bodies alone."""
    small_face_px: float = 8.0
    """Faces of this many pixels double the error; smaller ones are not seen at all (assumed)."""
    gross_share: float = 0.02
    """Share of ages that are plainly wrong: another person's, or a child read as an adult (assumed)."""
    missing_share: float = 0.10
    """Share of people without a face of whom nothing is said at all (NaN; assumed)."""
    sex_accuracy: tuple[float, float] = (0.975, 0.93)
    """Sex read from a face, and from the body alone, from twelve years on (MiVOLO reports 97 to 99 %, and about 96 %;
    measured 96 % and 90 %)."""
    child_sex_accuracy: float = 0.80
    """Sex of children below twelve years (assumed)."""


@dataclass(frozen=True)
class KeypointErrors:
    """A 2D keypoint network (not used by the placement itself)."""

    px_share: float = 0.01
    """Standard deviation of a visible keypoint over the box's diagonal (assumed from OKS scores of 0.75 to 0.8)."""
    hidden_gain: float = 4.0
    """Factor for hidden keypoints."""


@dataclass(frozen=True)
class ExpertErrors:
    """All upstream errors of one simulated set of experts."""

    hmr: HmrErrors = field(default_factory=HmrErrors)
    depth: DepthErrors = field(default_factory=DepthErrors)
    masks: MaskErrors = field(default_factory=MaskErrors)
    attributes: AttributeErrors = field(default_factory=AttributeErrors)
    keypoints: KeypointErrors = field(default_factory=KeypointErrors)

    def __post_init__(self) -> None:
        for part in fields(self):
            errors = getattr(self, part.name)
            for error in fields(errors):
                given = getattr(errors, error.name)
                low, high = _limits(error.name)
                values = given if isinstance(given, tuple) else (given,)
                if not all(math.isfinite(value) and low <= value <= high for value in values):
                    name = f"{part.name}.{error.name}"
                    raise InputError(f"simulated experts: {name} must lie between {low:g} and {high:g}, got {given}")
        if self.depth.far_m[0] > self.depth.far_m[1]:
            raise InputError(f"simulated experts: depth.far_m must name the lower end first, got {self.depth.far_m}")


_SHARES_OF_PEOPLE = (
    "flatten_share", "bleed_share", "airborne_share", "merge_share", "cut_share", "fewest_share", "gross_share",
    "missing_share", "sex_accuracy", "child_sex_accuracy",
)  # fmt: skip


def _limits(name: str) -> tuple[float, float]:
    """Between which values an error of that name makes sense."""
    if name in _SHARES_OF_PEOPLE:
        return 0.0, 1.0
    if name in ("stature_mean_m", "far_m"):
        return 0.1, math.inf
    if name in ("erode", "focal_bias"):
        return -0.9, math.inf
    return (1.0 if name == "fewest_px" else 0.0), math.inf


def exact() -> ExpertErrors:
    """No error but the adult's stature in everybody and an unknown scale of the depth map: the ideal case."""
    hmr = HmrErrors(1.70, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    depth = DepthErrors((10.0, 10.0), 0.0, 0.0, 0.0, 0.0, 0.0, (1.0, 0.0), 0.0, 0.0, 0.0, 0.0, 0.0)
    masks = MaskErrors(0.0, 0.0, 0.0, 1, 0.0)
    attributes = AttributeErrors(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, (1.0, 1.0), 1.0)
    return ExpertErrors(hmr, depth, masks, attributes, KeypointErrors(0.0, 1.0))


def mild() -> ExpertErrors:
    """About half the nominal strength: people in the open, good light, a known camera model."""
    return ExpertErrors(
        HmrErrors(
            stature_follow=0.3, stature_std_m=0.03, crouch_bias_m=0.03, pose_deg=4.5, orientation_deg=3.0,
            depth_std=0.015, occlusion_gain=1.0, focal_std=0.05, focal_bias=0.02,
        ),
        DepthErrors(
            shift_to_farthest=0.2, shift_std=0.05, vertical_std=0.025, local_std=0.025, person_std=0.025,
            relief=(1.0, 0.15), flatten_share=0.02, bleed_share=0.05, airborne_share=0.25, blur=0.002, pixel_std=0.003,
        ),
        MaskErrors(erode=0.003, merge_share=0.02, cut_share=0.03),
        AttributeErrors(
            age_std_years=0.3, age_std_share=0.07, faceless_gain=1.5, small_face_px=5.0, gross_share=0.005,
            missing_share=0.02, sex_accuracy=(0.99, 0.96), child_sex_accuracy=0.9,
        ),
        KeypointErrors(px_share=0.006),
    )  # fmt: skip


def nominal() -> ExpertErrors:
    """After what is reported for the strongest published models; see the measured figures for what came out.

    Depth maps, statures, ages and focal lengths err as reported; poses err more, in full view by a fifth (PA-MPJPE)
    and a third (MPJPE).
    """
    return ExpertErrors()


def strong() -> ExpertErrors:
    """Nearly twice the nominal strength: crowds, bad light, small or weak networks."""
    return ExpertErrors(
        HmrErrors(
            stature_follow=0.0, stature_std_m=0.07, crouch_bias_m=0.10, pose_deg=13.0, orientation_deg=10.0,
            depth_std=0.06, occlusion_gain=3.0, focal_std=0.18, focal_bias=0.08,
        ),
        DepthErrors(
            shift_to_farthest=0.7, shift_std=0.20, vertical_std=0.10, local_std=0.09, person_std=0.10,
            relief=(0.8, 0.35), flatten_share=0.15, bleed_share=0.35, airborne_share=0.8, blur=0.008, pixel_std=0.01,
        ),
        MaskErrors(erode=0.012, merge_share=0.10, cut_share=0.15),
        AttributeErrors(
            age_std_years=1.0, age_std_share=0.18, faceless_gain=2.0, small_face_px=14.0, gross_share=0.06,
            missing_share=0.3, sex_accuracy=(0.94, 0.85), child_sex_accuracy=0.65,
        ),
        KeypointErrors(px_share=0.02),
    )  # fmt: skip


STRENGTHS = {"mild": mild, "nominal": nominal, "strong": strong}
"""The presets by name, in rising strength."""
