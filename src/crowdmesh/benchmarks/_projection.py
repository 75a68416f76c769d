"""People in the image, as the released evaluations put them there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def projected(
    points_m: Float[np.ndarray, "n J 3"], intrinsics_px: Float[np.ndarray, "*cameras 3 3"]
) -> Float[np.ndarray, "n J 2"]:
    """Image points K X / (z + 1e-6), pixels; of one camera (3, 3) or one for each person (n, 3, 3).

    A point beside or behind the camera has no place in the image; it gets one that is far off or mirrored, but finite,
    so that a person who reaches past the camera is still compared.
    """
    depth = points_m[..., 2:] + 1e-6
    depth = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    return (points_m @ np.swapaxes(intrinsics_px, -1, -2))[..., :2] / depth
