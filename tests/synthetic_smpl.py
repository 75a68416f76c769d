"""Files in the layout of SMPL's, made of numbers of our own: no licensed data."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import scipy.sparse

from crowdmesh.body.smpl import JOINT_NAMES

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
VERTICES = 6890
# Height and side of each joint of a 1.7 m figure, pelvis at the origin, metres.
_UP = (
    0,
    -0.1,
    -0.1,
    0.1,
    -0.5,
    -0.5,
    0.25,
    -0.9,
    -0.9,
    0.3,
    -0.95,
    -0.95,
    0.5,
    0.4,
    0.4,
    0.65,
    0.4,
    0.4,
    0.4,
    0.4,
    0.4,
    0.4,
    0.4,
    0.4,
)
_SIDE = (
    0,
    0.1,
    -0.1,
    0,
    0.1,
    -0.1,
    0,
    0.1,
    -0.1,
    0,
    0.1,
    -0.1,
    0,
    0.08,
    -0.08,
    0,
    0.2,
    -0.2,
    0.45,
    -0.45,
    0.7,
    -0.7,
    0.8,
    -0.8,
)


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a made-up model: blobs of vertices around joints."""
    random = np.random.default_rng(seed)
    joints = np.stack((_SIDE, _UP, np.zeros(24)), 1)
    owner = np.arange(VERTICES) % 24
    template = joints[owner] + 0.05 * random.standard_normal((VERTICES, 3)).clip(-1.5, 1.5)
    weights = np.zeros((VERTICES, 24))
    weights[np.arange(VERTICES), owner] = 0.7
    np.add.at(weights, (np.arange(VERTICES), np.maximum(np.array(PARENTS)[owner], 0)), 0.3)
    regressor = np.zeros((24, VERTICES))
    regressor[owner, np.arange(VERTICES)] = 1
    regressor /= regressor.sum(1, keepdims=True)
    directions = 0.004 * random.standard_normal((VERTICES, 3, 10))
    directions[:, :, 0] = 0.04 * template
    return {
        "v_template": template,
        "weights": weights,
        "J_regressor": regressor,
        "shapedirs": directions,
        "posedirs": 0.001 * random.standard_normal((VERTICES, 3, 207)),
        "f": random.integers(0, VERTICES, (13776, 3)).astype(np.uint32),
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(24)], np.uint32),
    }


def write(folder: Path, name: str = "SMPL_NEUTRAL.pkl", kid: bool = True) -> Path:
    """Write a model file (``.pkl`` with a sparse regressor, or ``.npz``) and a kid template beside it."""
    assert len(JOINT_NAMES) == 24
    folder.mkdir(parents=True, exist_ok=True)
    path, data = folder / name, arrays()
    if path.suffix == ".npz":
        np.savez(path, **data)
    else:
        data["J_regressor"] = scipy.sparse.csc_matrix(data["J_regressor"])
        path.write_bytes(pickle.dumps(data, protocol=2))
    if kid:
        np.save(folder / "smpl_kid_template.npy", 0.35 * data["v_template"] + 0.02)
    return path
