"""Made-up SMPL files, annotations and scenes for the mesh protocols: no licensed data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import synthetic_smpl

from crowdmesh.benchmarks._smpl_bodies import MeshPeople
from crowdmesh.camera import Camera
from crowdmesh.formats import SMPLPeople
from crowdmesh.people import People
from crowdmesh.scene import Scene

SIZE = (1288, 724)  # so that the protocols match in pixels of the image itself
CAMERA = Camera(1200.0, 1200.0, 644.0, 362.0, *SIZE)
FEMALE_SCALE, MALE_SCALE = 0.94, 1.05


def write_files(folder: Path) -> Path:
    """Models of three genders, which differ in size; a joint regressor; body vertices."""
    synthetic_smpl.write(folder, "SMPL_NEUTRAL.npz")
    arrays = synthetic_smpl.arrays()
    for name, scale in (("basicmodel_f_lbs_10_207_0_v1.1.0.npz", FEMALE_SCALE), ("SMPL_MALE.npz", MALE_SCALE)):
        np.savez(folder / name, **arrays | {"v_template": scale * arrays["v_template"]})
    np.save(folder / "J_regressor_h36m_correct.npy", regressor())
    np.save(folder / "body_verts_smpl.npy", np.arange(0, 6890, 2))
    return folder


def regressor() -> np.ndarray:
    """Human3.6M joints as means of vertices around joints of the made-up model."""
    around = (0, 2, 5, 8, 1, 4, 7, 6, 12, 15, 22, 16, 18, 20, 17, 19, 21)
    rows = np.zeros((17, 6890))
    for row, joint in zip(rows, around, strict=True):
        row[np.arange(joint, 6890, 24)] = 1
    return rows / rows.sum(1, keepdims=True)


def annotation(places_m: list[tuple[float, float, float]], seed: int = 0, **change) -> SMPLPeople:
    """People at the given places of the camera frame, who stand upright, facing the camera."""
    n, random = len(places_m), np.random.default_rng(seed)
    pose = 0.1 * random.normal(size=(n, 24, 3))
    pose[:, 0] = (np.pi, 0, 0)
    # The world is the camera's, turned about z and moved: the protocols must undo it.
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    shift = np.array([0.3, -0.2, 0.5])
    world = (np.array(places_m).reshape(-1, 3) - shift) @ turn
    from roma import rotmat_to_rotvec, rotvec_to_rotmat
    from torch import from_numpy

    root = turn.T @ rotvec_to_rotmat(from_numpy(pose[:, 0].copy())).numpy()
    pose[:, 0] = rotmat_to_rotvec(from_numpy(root)).numpy()
    people = SMPLPeople(
        np.tile(CAMERA.K, (n, 1, 1)),
        np.tile(turn, (n, 1, 1)),
        np.tile(shift, (n, 1)),
        pose,
        0.5 * random.normal(size=(n, 10)),
        world,
        ("neutral",) * n,
        np.ones(n, bool),
    )
    return replace(people, **change)


def scene(people: MeshPeople, camera: Camera = CAMERA) -> Scene:
    """A prediction: surfaces and joints as they are."""
    n = len(people)
    return Scene(
        camera,
        People(
            body="rigid",
            translation_m=people.translation_m,
            stature_m=people.stature_m,
            vertices_m=people.vertices_m.astype(np.float32),
            joints_m=people.joints_m.astype(np.float32),
            faces=np.array([[0, 1, 2]]),
        )
        if n
        else People(body="rigid", translation_m=np.zeros((0, 3)), stature_m=np.zeros(0)),
    )


def changed(people: MeshPeople, function, stature: float = 0.0) -> MeshPeople:
    """All points of the people through a function of points, statures raised."""
    return replace(
        people,
        vertices_m=function(people.vertices_m),
        joints_m=function(people.joints_m),
        stature_m=people.stature_m + stature,
    )
