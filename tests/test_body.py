"""Bodies: proportions people have, poses that move what they should, files that cannot do harm."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import roma
import synthetic_smpl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.body import SMPL, BodyModel, RigidBody, load_body, pose_people
from crowdmesh.body.growth import median_stature
from crowdmesh.body.keypoints import COCO17
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.people import People


@pytest.fixture(scope="module")
def smpl(tmp_path_factory) -> SMPL:
    return load_body("smpl", synthetic_smpl.write(tmp_path_factory.mktemp("smpl"), "any name.pkl"))


@pytest.fixture(params=["anny", "anny-hd", "smpl"])
def body(request, smpl):
    return smpl if request.param == "smpl" else load_body(request.param)


def upright(body, count: int) -> torch.Tensor:
    rotations = torch.eye(3).repeat(count, len(body.joint_names), 1, 1)
    rotations[:, 0] = torch.from_numpy(body.facing_camera).float()
    return rotations


def test_every_body_keeps_the_protocol(body):
    assert isinstance(body, BodyModel)
    vertices, joints = body.rest(body.default_shape(2))
    assert vertices.shape == (2, body.num_vertices, 3)
    assert joints.shape == (2, len(body.joint_names), 3)
    assert body.faces.min() >= 0
    assert body.faces.max() < body.num_vertices
    assert len(body.parents) == len(body.joint_names)


def test_rest_pose_is_what_identity_rotations_give(body):
    shape = body.default_shape(3, np.array([1.0, 9.0, 40.0]))
    vertices, joints = body.rest(shape)
    identity = torch.eye(3).repeat(3, len(joints[0]), 1, 1)
    output = body(shape, identity, torch.zeros(3, 3))
    torch.testing.assert_close(output.vertices, vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.joints, joints, atol=1e-5, rtol=0)


def test_root_rotation_and_translation_move_the_body_as_a_whole(body):
    shape = body.default_shape(1)
    rotation = roma.random_rotmat(1)
    rotations = torch.eye(3).repeat(1, len(body.joint_names), 1, 1)
    before = body(shape, rotations, torch.zeros(1, 3))
    rotations[:, 0] = rotation
    move = torch.tensor([[1.0, -2.0, 3.0]])
    after = body(shape, rotations, move)
    root = before.joints[:, :1]
    expected = (before.vertices - root) @ rotation.transpose(1, 2) + root + move[:, None]
    torch.testing.assert_close(after.vertices, expected, atol=1e-4, rtol=0)


def test_joints_alone_equal_joints_with_surface(body):
    shape, rotations = body.default_shape(2), roma.random_rotmat((2, len(body.joint_names)))
    move = torch.randn(2, 3)
    both, joints = body(shape, rotations, move), body(shape, rotations, move, vertices=False)
    assert joints.vertices is None
    torch.testing.assert_close(joints.joints, both.joints)


def test_bones_keep_their_length_in_any_pose(body):
    shape = body.default_shape(4, np.array([0.5, 6.0, 14.0, 50.0]))
    parents = torch.tensor(body.parents[1:])
    rest = body.rest(shape)[1]
    posed = body(shape, roma.random_rotmat((4, len(body.joint_names))), torch.zeros(4, 3)).joints
    length = lambda j: (j[:, 1:] - j[:, parents]).norm(dim=-1)  # noqa: E731
    torch.testing.assert_close(length(posed), length(rest), atol=1e-4, rtol=0)


def test_standing_in_the_camera_frame_means_head_up_feet_down_face_to_camera():
    for name in ("anny", "anny-hd"):
        body = load_body(name)
        points = body.keypoints(body(body.default_shape(1), upright(body, 1), torch.zeros(1, 3)), "coco17")[0]
        point = dict(zip(COCO17, points, strict=True))
        assert point["nose"][1] < point["left_hip"][1] < point["left_ankle"][1]  # y is down
        assert point["nose"][2] < point["left_ear"][2]  # the nose is nearer to the camera
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            assert point[f"left_{part}"][0] > 0 > point[f"right_{part}"][0]  # their left is our right
            np.testing.assert_allclose(point[f"left_{part}"][1:], point[f"right_{part}"][1:], atol=5e-3)
        assert 0.05 < (point["left_eye"] - point["right_eye"]).norm() < 0.08
        assert 0.13 < (point["left_ear"] - point["right_ear"]).norm() < 0.20


def test_the_two_resolutions_are_one_body():
    low, high = load_body("anny"), load_body("anny-hd")
    shape = low.default_shape(3, np.array([1.0, 10.0, 35.0]))
    rotations = roma.random_rotmat((3, len(low.joint_names)))
    one, two = low(shape, rotations, torch.zeros(3, 3)), high(shape, rotations, torch.zeros(3, 3))
    torch.testing.assert_close(one.joints, two.joints, atol=1e-3, rtol=0)
    torch.testing.assert_close(low.stature(shape), high.stature(shape), atol=6e-3, rtol=0)
    np.testing.assert_allclose(low.keypoints(one, "coco17"), high.keypoints(two, "coco17"), atol=0.012)


@pytest.mark.parametrize("male", [0.0, 0.5, 1.0])
def test_default_shapes_have_the_median_stature_of_their_age(male):
    ages = np.array([0.0, 0.5, 1, 2, 4, 7, 10, 13, 17, 25, 50, 90])
    for name in ("anny", "anny-hd"):
        body = load_body(name)
        stature = body.stature(body.default_shape(len(ages), ages, male)).numpy()
        np.testing.assert_allclose(stature, median_stature(ages, np.full(len(ages), male)), atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(1.4, 2.1), st.sampled_from([20.0, 40.0, 80.0, np.nan]), st.floats(0, 1))
def test_adults_reach_a_stature_along_the_height_axis_alone(target, age, male):
    body = load_body("anny")
    shape = body.default_shape(1, 30.0, male)
    changed, residual = body.with_stature(shape, torch.tensor([target]), np.array([age]))
    assert body.stature(changed).item() == pytest.approx(target, abs=1e-4)
    assert residual.item() == 1
    np.testing.assert_array_equal(np.delete(changed.numpy(), 4, 1), np.delete(shape.numpy(), 4, 1))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.45, 1.6), st.floats(0, 14.9))
def test_minors_reach_any_stature_and_take_the_age(target, age):
    body = load_body("anny")
    changed, residual = body.with_stature(body.default_shape(1), torch.tensor([target]), np.array([age]))
    assert body.stature(changed).item() == pytest.approx(target, abs=1e-3)
    assert residual.item() == 1
    assert changed[0, 1] < 0.6  # no longer an adult


def test_what_no_adult_can_reach_is_said():
    body = load_body("anny")
    changed, residual = body.with_stature(body.default_shape(2), torch.tensor([0.8, 3.0]), np.array([30.0, 30.0]))
    np.testing.assert_allclose(body.stature(changed) * residual, [0.8, 3.0], rtol=1e-5)
    assert (residual - 1).abs().min() > 0.05
    young, residual = body.with_stature(body.default_shape(1), torch.tensor([0.8]), None)
    assert residual.item() == 1  # unknown age: may be a child
    assert young[0, 1] < 0.4


def test_stature_can_be_differentiated():
    body = load_body("anny")
    shape = body.default_shape(1).requires_grad_()
    body.stature(shape).sum().backward()
    assert shape.grad[0, 4] > 0.5  # metres per unit of the height axis


def test_smpl_layer_agrees_with_the_formulas_written_out(smpl):
    data = synthetic_smpl.arrays()
    random = np.random.default_rng(1)
    betas, pose, move = random.standard_normal(11), 0.4 * random.standard_normal((24, 3)), random.standard_normal(3)
    betas[10] = 0.3
    kid = 0.35 * data["v_template"] + 0.02
    directions = np.concatenate((data["shapedirs"], (kid - kid.mean(0) - data["v_template"])[..., None]), 2)
    shaped = data["v_template"] + directions @ betas
    joints = data["J_regressor"] @ shaped
    turns = roma.rotvec_to_rotmat(torch.from_numpy(pose)).numpy()
    surface = shaped + data["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    world = []
    for j, parent in enumerate(synthetic_smpl.PARENTS):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turns[j], joints[j] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    expected = np.zeros_like(surface)
    for j, matrix in enumerate(world):
        expected += data["weights"][:, j : j + 1] * ((surface - joints[j]) @ matrix[:3, :3].T + matrix[:3, 3])
    output = smpl(*(torch.from_numpy(v).float()[None] for v in (betas, turns, move)))
    np.testing.assert_allclose(output.vertices[0].numpy(), expected + move, atol=2e-5)
    np.testing.assert_allclose(output.joints[0].numpy(), np.stack(world)[:, :3, 3] + move, atol=2e-5)


def test_smpl_reaches_statures_along_the_axis_of_the_age(smpl):
    target, age = torch.tensor([1.5, 0.9, 1.2, 1.7]), np.array([30.0, 2.0, np.nan, 10.0])
    shape, residual = smpl.with_stature(smpl.default_shape(4), target, age)
    np.testing.assert_allclose(smpl.stature(shape), target, atol=1e-3)
    assert (residual == 1).all()
    assert shape[0, 10] == 0
    assert shape[0, 0] < 0
    assert shape[1, 0] == smpl.default_shape(1)[0, 0]
    assert shape[1, 10] > 0.5


@pytest.mark.parametrize("name", ["SMPL_NEUTRAL.pkl", "whatever.npz"])
def test_smpl_files_of_any_name_and_both_formats(tmp_path, name):
    synthetic_smpl.write(tmp_path, name, kid=False)
    body = load_body("smpl", tmp_path)
    assert not body.has_kid_axis
    assert body.default_shape(1).shape == (1, 10)


def test_smpl_recorded_stand_in(vectors, tmp_path):
    import runpy

    write = runpy.run_path(str(vectors / "smpl_stand_in.py"))["write"]
    write(str(tmp_path))
    body = load_body("smpl", tmp_path / "smpl")
    assert body.has_kid_axis
    vertices, _ = body.rest(torch.zeros(1, 11))
    assert torch.isfinite(vertices).all()


def test_missing_smpl_says_where_to_get_it(tmp_path):
    with pytest.raises(AssetError, match=r"smpl\.is\.tue\.mpg\.de.*put its neutral .*anny needs no registration"):
        load_body("smpl", tmp_path)


class _Malicious:
    def __reduce__(self):
        import os

        return os.system, ("touch owned",)


@pytest.mark.parametrize("content", [pickle.dumps({"v_template": _Malicious()}), b"", b"garbage", pickle.dumps([1, 2])])
def test_harmful_or_broken_pickles_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SMPL.pkl").write_bytes(content)
    with pytest.raises(FormatError, match=r"SMPL\.pkl is not a readable SMPL model file"):
        load_body("smpl", tmp_path / "SMPL.pkl")
    assert not (tmp_path / "owned").exists()


def test_unknown_body():
    with pytest.raises(InputError, match="unknown body 'smplx'; use one of anny, anny-hd, smpl"):
        load_body("smplx")


def test_rigid_bodies_say_what_they_cannot_do():
    body = RigidBody(np.array([[0, 1, 2]]), 3)
    with pytest.raises(InputError, match="made of vertices alone"):
        body.rest(body.default_shape(1))
    with pytest.raises(InputError, match="faces refer to vertex 7"):
        RigidBody(np.array([[0, 1, 7]]), 3)


def test_posing_people_checks_the_parameters():
    people = People(
        body="anny",
        translation_m=np.zeros((1, 3)),
        stature_m=np.ones(1),
        pose=np.zeros((1, 24, 3)),
        shape=np.zeros((1, 6)),
    )
    with pytest.raises(InputError, match=r"body 'anny' needs pose \(104, 3\)"):
        pose_people(people)
    with pytest.raises(InputError, match="no pose and shape"):
        pose_people(replace(people, pose=None))
