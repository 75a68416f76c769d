"""Joint orders of the public data sets, written once."""

from __future__ import annotations

H36M17 = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
    "neck_base", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow",
    "right_wrist",
)  # fmt: skip
"""Human3.6M's seventeen joints (Ionescu et al. 2014), the rows of ``J_regressor_h36m_correct``."""

H36M14 = (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16)
"""The fourteen of them that 3DPW and Hi4D are scored on: without pelvis, spine and neck base."""

H36M17_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
"""The bone tree: the parent of each of the seventeen joints."""

CROWDPOSE14 = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head_top", "neck",
)  # fmt: skip
"""CrowdPose (Li et al. 2019)."""

J24 = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top", "pelvis", "thorax", "spine",
    "jaw", "head", "nose", "left_eye", "right_eye", "left_ear", "right_ear",
)  # fmt: skip
"""The 24 joints that HMR, SPIN and their heirs gather data sets in; CMU Panoptic uses the first nineteen."""

J24_PELVIS = 14

H36M17_FROM_J24 = (14, 2, 1, 0, 3, 4, 5, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6)
"""``j24[..., H36M17_FROM_J24, :]`` brings them into the order of :data:`H36M17`."""
