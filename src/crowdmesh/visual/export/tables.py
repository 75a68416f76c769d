"""NPZ, JSON and SMPL: the people as numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import scene_faces
from crowdmesh.visual.export._records import camera_values, head, person_values, plain, unit_notes
from crowdmesh.visual.export._turn import turned, turned_parameters
from crowdmesh.visual.export.frame import Frame

# Of People, per person; the frame does not touch them.
_EVIDENCE = (
    "scores", "boxes_px", "keypoints_px", "age_years", "age_std_years", "male_probability", "fit_error_px"
)  # fmt: skip
_SINGULAR = {"scores": "score", "boxes_px": "box_px"}
_SMPL_JOINTS, _SMPL_BETAS = 24, 10


def write_npz(scene: Scene, path: Path, frame: Frame) -> None:
    """Plain arrays; lengths in the file's unit. What nobody has found out is absent.

    ==========================  ===========================================================================
    key                         content
    ==========================  ===========================================================================
    header                      JSON: format ``crowdmesh-export``, version, frame, body, notes, provenance
    intrinsics, image_size      (3, 3) matrix in pixels; width, height
    camera_rotation             (3, 3) from the camera frame to the file's; its columns are the camera's right, down
                                and forward. The camera stands at the origin
    vertices, faces, joints     (K, V, 3), (F, 3), (K, J, 3) in the file's frame
    translation, pose, shape    (K, 3), (K, J, 3), (K, S): with them the body model, posed in metres, gives the
                                vertices. ``rigid``: the translation is a point, and there is neither pose nor shape
    stature, known_stature      (K,), (K,); NaN: nobody measured this person
    status                      (K,) ``PersonStatus`` values
    boxes_px, scores ...        the evidence, with the names of ``People``; masks as ``mask_runs``, ``mask_offsets``
    ==========================  ===========================================================================
    """
    people, parameters = scene.people, turned_parameters(scene.people, frame)
    assert people.vertices_m is not None
    header = head(people.body, frame, unit_notes(frame)) | {"provenance": scene.provenance}
    arrays = _camera_arrays(scene.camera, frame) | {
        "header": np.array(json.dumps(header)),
        "vertices": turned(people.vertices_m, frame),
        "faces": scene_faces(scene),
        "joints": None if people.joints_m is None else turned(people.joints_m, frame),
        "translation": parameters.translation,
        "pose": parameters.pose,
        "shape": parameters.shape,
        "stature": people.stature_m * frame.per_metre,
        "known_stature": _known_stature(people, frame),
        "status": people.status,
        "mask_runs": None if people.masks is None else people.masks.runs,
        "mask_offsets": None if people.masks is None else people.masks.offsets,
    }
    _save(path, arrays | {name: getattr(people, name) for name in _EVIDENCE})


def write_json(scene: Scene, path: Path, frame: Frame) -> None:
    """A table: frame, camera, and one object per person with parameters and evidence; ``null`` is unknown.

    Keys of a person are those of :func:`write_npz` (``score`` and ``box_px`` in the singular) with ``id`` (index in the
    scene), ``status`` and ``reason`` in words, and ``root``, where the root joint (the pelvis) is. Surfaces are left to
    the other formats.
    """
    people = scene.people
    rows = person_values(people, turned_parameters(people, frame), frame)
    root, known_stature = _root(people, frame), _known_stature(people, frame)
    for k, row in enumerate(rows):
        row |= {"root": plain(root, k), "known_stature": plain(known_stature, k)}
        row |= {_SINGULAR.get(name, name): plain(getattr(people, name), k) for name in _EVIDENCE}
    camera = camera_values(scene.camera) | {
        "rotation": frame.rotation.tolist(),
        "position": [0.0, 0.0, 0.0],
    }
    table = head(people.body, frame, unit_notes(frame)) | {
        "camera": camera,
        "people": rows,
        "provenance": scene.provenance,
    }
    text = json.dumps(table, indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_smpl(scene: Scene, path: Path, frame: Frame) -> None:
    """Parameters under SMPL's usual names: the SMPL model run with them gives the scene's bodies in the file's frame.

    ``global_orient`` (K, 3), ``body_pose`` (K, 69), ``betas`` (K, 10), ``kid`` (K,), ``transl`` (K, 3) in the file's
    unit, and the camera as in :func:`write_npz`. ``kid`` is AGORA's eleventh beta, 0 for adults: with SMPL's ``kid``
    variant, betas are ``[betas, kid]``.

    Raises:
        InputError: people of another body, or without pose and shape.
    """
    people = scene.people
    if people.body != "smpl":
        raise InputError(
            f"format smpl takes people of body 'smpl', but these are of body {people.body!r}; use npz or json"
        )
    if people.pose is None or people.shape is None:
        raise InputError("these SMPL people have no pose and shape to write; export their surface (glb, ply, obj, npz)")
    if people.pose.shape[1] != _SMPL_JOINTS or people.shape.shape[1] not in (_SMPL_BETAS, _SMPL_BETAS + 1):
        raise InputError(
            f"SMPL people have pose (24, 3) and shape (10,) or (11,), got {people.pose.shape[1:]} and "
            f"{people.shape.shape[1:]}"
        )
    parameters = turned_parameters(people, frame)
    assert parameters.pose is not None
    kid = people.shape[:, _SMPL_BETAS] if people.shape.shape[1] > _SMPL_BETAS else np.zeros(len(people))
    header = head("smpl", frame, unit_notes(frame)) | {"provenance": scene.provenance}
    arrays = _camera_arrays(scene.camera, frame) | {
        "header": np.array(json.dumps(header)),
        "global_orient": parameters.pose[:, 0],
        "body_pose": parameters.pose[:, 1:].reshape(len(people), -1),
        "betas": people.shape[:, :_SMPL_BETAS],
        "kid": kid,
        "transl": parameters.translation,
    }
    _save(path, arrays)


def _camera_arrays(camera: Camera, frame: Frame) -> dict[str, Any]:
    return {
        "intrinsics": camera.K,
        "image_size": np.array([camera.width, camera.height]),
        "camera_rotation": frame.rotation,
    }


def _root(people: People, frame: Frame) -> np.ndarray | None:
    """Where everybody's root joint is; unknown for rigid bodies, whose joints have no order."""
    if people.joints_m is None or people.body == "rigid":
        return None
    return turned(people.joints_m[:, 0].astype(float), frame)


def _known_stature(people: People, frame: Frame) -> np.ndarray | None:
    return None if people.known_stature_m is None else people.known_stature_m * frame.per_metre


def _save(path: Path, arrays: dict[str, Any]) -> None:
    there = {name: value for name, value in arrays.items() if value is not None}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **there)
