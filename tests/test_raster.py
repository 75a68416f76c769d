"""The z-buffer against a ray caster and against shapes whose picture can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import cast_rays

from crowdmesh.body import load_body
from crowdmesh.errors import InputError
from crowdmesh.raster import rasterize, visible_vertices

K = torch.tensor([[100.0, 0.0, 50.0], [0.0, 100.0, 40.0], [0.0, 0.0, 1.0]])
SIZE = (80, 100)
TRIANGLE = torch.tensor([[0, 1, 2]])


def person_depth(vertices, faces, K=K, size=SIZE, **options):
    buffer = rasterize(vertices, faces, K, size, **options)
    return buffer.person, buffer.depth


def agree(vertices, faces, K=K, size=SIZE) -> float:
    """Share of pixels on which z-buffer and ray caster see different people; depths must agree on the others."""
    person, depth = person_depth(vertices, faces, K, size)
    true_depth, true_person = cast_rays(vertices, faces, K, size)
    same = (person == true_person) & (person >= 0)
    np.testing.assert_allclose(depth[same].numpy(), true_depth[same].numpy(), rtol=2e-2)
    assert np.median(np.abs(depth[same].numpy() / true_depth[same].numpy() - 1)) < 1e-3
    return float((person != true_person).double().mean())


def crowd_of(count: int, seed: int, offset_z: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    body = load_body("anny")
    random = torch.Generator().manual_seed(seed)
    rotations = torch.eye(3).repeat(count, len(body.joint_names), 1, 1)
    rotations[:, 0] = torch.from_numpy(body.facing_camera).float()
    place = (torch.rand(count, 3, generator=random) - 0.5) * torch.tensor([2.0, 1.0, 1.5]) + torch.tensor(
        [0, 0, offset_z]
    )
    shape = body.default_shape(count, np.linspace(1, 40, count))
    return body(shape, rotations, place).vertices, body.faces


def test_tilted_plane_has_the_depth_of_its_equation():
    # z = 2 + 0.5 x + 0.25 y through three far corners; at pixel (u, v): z = 2 / (1 - 0.5 x/z - 0.25 y/z).
    xy = torch.tensor([[-20.0, -20.0], [40.0, -15.0], [-15.0, 40.0]])
    z = 2 + 0.5 * xy[:, :1] + 0.25 * xy[:, 1:]
    far = torch.cat((xy, z), 1)[None]
    far = far[:, far[0, :, 2].argsort()]
    _, depth = person_depth(far, TRIANGLE)
    v, u = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(100) + 0.5, indexing="ij")
    expected = 2 / (1 - 0.5 * (u - 50) / 100 - 0.25 * (v - 40) / 100)
    assert torch.isfinite(depth).all()
    np.testing.assert_allclose(depth.numpy(), expected.numpy(), rtol=3e-4)


def test_crossing_triangles_hide_each_other_on_either_side():
    one = torch.tensor([[-1.0, -1, 2], [1, -1, 4], [0, 2, 3]])
    two = torch.tensor([[-1.0, -1, 4], [1, -1, 2], [0, 2, 3]])
    person, depth = person_depth(torch.stack((one, two)), TRIANGLE)
    left, right = person[:, :50], person[:, 50:]
    assert (left[left >= 0] == 0).float().mean() > 0.97
    assert (right[right >= 0] == 1).float().mean() > 0.97
    assert agree(torch.stack((one, two)), TRIANGLE) < 0.01
    assert depth[person >= 0].max() < 3.3


def test_sphere_has_the_size_and_depth_of_a_sphere():
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=5, radius=0.5)
    vertices = torch.from_numpy(sphere.vertices + np.array([0, 0, 3])).float()[None]
    person, depth = person_depth(vertices, torch.from_numpy(sphere.faces.astype(np.int64)))
    radius = 100 * 0.5 / np.sqrt(3**2 - 0.5**2)  # of the projected circle
    assert (person >= 0).sum().item() == pytest.approx(np.pi * radius**2, rel=0.02)
    assert depth[40, 50].item() == pytest.approx(2.5, abs=1e-3)


def test_bodies_agree_with_the_ray_caster():
    assert agree(*crowd_of(2, 0)) < 0.004


def test_bodies_that_cross_the_camera_plane_are_clipped_not_dropped():
    vertices, faces = crowd_of(2, 7, offset_z=0.3)
    behind = vertices[..., 2] < 0.05
    assert behind.any()
    assert not behind.all()
    assert agree(vertices, faces) < 0.01


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("depths", [(1.0, 1.0, -1.0), (1.0, -1.0, -1.0)])
def test_each_way_a_triangle_can_cross_the_camera_plane(turn, depths):
    corners = torch.tensor([[-0.3, -0.3, depths[0]], [0.4, -0.2, depths[1]], [0.1, 0.5, depths[2]]]).roll(turn, 0)
    person, _ = person_depth(corners[None], TRIANGLE)
    assert (person >= 0).any()
    assert agree(corners[None], TRIANGLE) < 0.01


def test_shared_edges_leave_no_gaps():
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 40), np.linspace(-3, 3, 40)), -1).reshape(-1, 2)
    inner = (np.abs(grid) < 2.9).all(1)
    grid[inner] += random.uniform(-0.05, 0.05, (inner.sum(), 2))
    vertices = torch.from_numpy(np.c_[grid, np.full(len(grid), 4.0)]).float()[None]
    corner = (np.arange(39)[:, None] * 40 + np.arange(39)).ravel()
    faces = np.concatenate(
        [np.stack((corner, corner + 1, corner + 41), 1), np.stack((corner, corner + 41, corner + 40), 1)]
    )
    person, _ = person_depth(vertices, torch.from_numpy(faces))
    assert (person == 0).all()


def test_masks_confine_each_person_and_nobody_hides_outside_their_own():
    near, far = (
        torch.tensor([[-2.0, -2, 2], [2, -2, 2], [0, 4, 2]]),
        torch.tensor([[-4.0, -4, 4], [4, -4, 4], [0, 8, 4]]),
    )
    masks = torch.ones(2, *SIZE, dtype=torch.bool)
    masks[0, :, :50] = False
    person, depth = person_depth(torch.stack((near, far)), TRIANGLE, masks=masks)
    assert (person[30, 10:50] == 1).all()
    assert (person[30, 50:90] == 0).all()
    assert depth[30, 20] == pytest.approx(4)


def test_same_result_every_time_and_in_float_or_numpy_intrinsics():
    vertices, faces = crowd_of(4, 5)
    one = rasterize(vertices, faces, K, SIZE)
    two = rasterize(vertices, faces, K.numpy().astype(float), SIZE)
    assert torch.equal(one.depth, two.depth)
    assert torch.equal(one.face, two.face)


def test_face_numbers_name_person_and_triangle():
    vertices, faces = crowd_of(2, 1)
    buffer = rasterize(vertices, faces, K, SIZE)
    seen = buffer.face >= 0
    person, face = torch.div(buffer.face[seen], len(faces), rounding_mode="floor"), buffer.face[seen] % len(faces)
    corners = vertices[person.long()[:, None], faces[face.long()]]
    assert torch.equal(person, buffer.person[seen])
    assert (buffer.depth[seen] > corners[..., 2].amin(1) - 1e-3).all()
    assert (buffer.depth[seen] < corners[..., 2].amax(1) + 1e-3).all()


def test_visible_vertices_are_those_in_front():
    vertices, faces = crowd_of(1, 2)
    pair = torch.cat((vertices, vertices * 1.5))  # the second is the first, further away on the same rays
    buffer = rasterize(pair, faces, K * torch.tensor([[4.0], [4.0], [1.0]]), (320, 400))
    visible = visible_vertices(buffer, pair, K * torch.tensor([[4.0], [4.0], [1.0]]))
    assert visible[1].float().mean() < 0.01
    share = visible[0].float().mean()
    assert 0.25 < share < 0.6
    front = vertices[0, visible[0], 2].mean()
    assert front < vertices[0, ~visible[0], 2].mean()


def test_nobody_gives_an_empty_buffer():
    buffer = rasterize(torch.zeros(0, 10, 3), TRIANGLE, K, SIZE)
    assert torch.isinf(buffer.depth).all()
    assert (buffer.person == -1).all()


@pytest.mark.usefixtures("unchecked")
def test_wrong_shapes_are_refused():
    vertices = torch.zeros(2, 3, 3)
    with pytest.raises(InputError, match="masks must have shape"):
        rasterize(vertices, TRIANGLE, K, SIZE, masks=torch.ones(1, 3, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="vertices"):
        rasterize(torch.zeros(3, 3), TRIANGLE, K, SIZE)
    with pytest.raises(InputError, match="0x0"):
        rasterize(vertices, TRIANGLE, K, (0, 0))


def test_faces_and_vertices_that_do_not_belong_together_are_refused():
    vertices = torch.rand(1, 3, 3) + 1
    for faces in ([[0, 1, 50_000_000]], [[0, 1, -1]]):
        with pytest.raises(InputError, match="do not belong"):
            rasterize(vertices, torch.tensor(faces), K, SIZE)
    with pytest.raises(InputError, match="finite"):
        rasterize(vertices * torch.nan, TRIANGLE, K, SIZE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_picture():
    vertices, faces = crowd_of(3, 4)
    one, two = rasterize(vertices, faces, K, SIZE), rasterize(vertices.cuda(), faces.cuda(), K, SIZE)
    assert (one.face == two.face.cpu()).float().mean() > 0.999
