"""From a stage to a picture with its truth: one camera, one depth test for bodies, props and the place around them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from crowdmesh.body import load_body
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.raster import ZBuffer
from crowdmesh.scene import Scene
from crowdmesh.synth.rendering.backdrop import Place
from crowdmesh.synth.rendering.bodymap import body_map
from crowdmesh.synth.rendering.clutter import draw_clutter
from crowdmesh.synth.rendering.evidence import boxes_around, seen_vertices, silhouette_pixels, true_keypoints
from crowdmesh.synth.rendering.lens import exposure, photograph, smooth_edges
from crowdmesh.synth.rendering.light import draw_light, ground_shadows
from crowdmesh.synth.rendering.paint import Painter
from crowdmesh.synth.rendering.palette import Material, linear, random_color
from crowdmesh.synth.rendering.places import draw_place
from crowdmesh.synth.rendering.rays import Geometry, Sight, look
from crowdmesh.synth.rendering.textures import draw_texture
from crowdmesh.synth.rendering.wardrobe import draw_looks
from crowdmesh.synth.scene import CLUTTER, PROP, SKY, SyntheticScene
from crowdmesh.synth.stage import Stage
from crowdmesh.visual.shading import vertex_normals

_THING_TEXTURES = ("plain", "noise", "grain", "boards", "stripes", "checks")


def render_stage(stage: Stage, random: np.random.Generator, provenance: dict[str, Any] | None = None) -> SyntheticScene:
    """The picture of a stage, with a random place, light, clothes and lens, and all that is true about it.

    Masks, depth and labels are those of pixel centres; colours at edges are smoothed over three pixels.

    Args:
        stage: people of body ``anny`` with vertices and joints.
        provenance: what reproduces the scene; arrangement, poses, supports and the kind of place are added.

    Raises:
        InputError: nobody there, people without vertices and joints, or of another body.
    """
    people, camera = stage.people, stage.camera
    if len(people) == 0:
        raise InputError("a stage without people cannot be rendered; put at least one on it")
    if people.vertices_m is None or people.joints_m is None:
        raise InputError("the people of a stage need vertices and joints; pose them first (body.pose_people)")
    body = body_map(people.body)
    vertices, faces = torch.from_numpy(people.vertices_m), load_body(people.body).faces
    solid_points = [prop.vertices_m for prop in stage.props]
    everything = np.concatenate([people.vertices_m[:, ::5].reshape(-1, 3), *solid_points])
    place = draw_place(float(stage.ground[3]), stage.ground[:3].round(9), everything, random)
    clutter = draw_clutter(place, everything, camera.width / (2 * camera.fx), random)
    geometry = Geometry.of(people.vertices_m, faces, (*stage.props, *clutter))
    light = draw_light(place, random)
    size = (camera.height, camera.width)
    buffer = geometry.rendered(camera.K, size)
    sight = look(buffer, place, camera.K)
    direct, ambient = ground_shadows(light, place, geometry, camera)
    materials = tuple(_material(thing.kind, random) for thing in (*stage.props, *clutter))
    normals = vertex_normals(vertices.double(), faces).numpy().round(6).astype(np.float32).reshape(-1, 3)
    painter = Painter(
        body, draw_looks(people, random), geometry, normals, materials, place, light, 1.0 / camera.fx, direct.ravel(),
        ambient.ravel(),
    )  # fmt: skip
    labels = _labels(sight, place, geometry, len(stage.props)).reshape(size)
    picture = _picture(painter, sight, labels, random)
    depth = sight.depth.reshape(size)
    seen = torch.from_numpy(np.where(labels >= 0, sight.face.reshape(size), -1))
    told = {"arrangement": stage.arrangement, "poses": list(stage.poses), "supports": list(stage.supports)}
    return SyntheticScene(
        scene=Scene(
            camera,
            _with_evidence(people, camera, labels, depth),
            picture,
            {**(provenance or {}), **told, "place": place.kind},
        ),
        depth=RelativeDepth(depth, "metric"),
        labels=labels,
        visible_vertices=seen_vertices(ZBuffer(buffer.depth, seen, len(faces)), vertices, camera),
        silhouette_px=silhouette_pixels(vertices, faces, camera),
        ground=np.asarray(stage.ground, float),
        poses=stage.poses,
        supports=stage.supports,
        props=stage.props,
        arrangement=stage.arrangement,
    )


def _labels(sight: Sight, place: Place, geometry: Geometry, props: int) -> Int[np.ndarray, " N"]:
    of_surface = np.array([place.label(i) for i in range(2 + len(place.walls) + place.indoors + len(place.layers))])
    of_thing = np.arange(len(np.unique(geometry.thing)))
    of_thing = np.where(of_thing < props, PROP - of_thing, CLUTTER)
    of_face = np.concatenate(
        (np.repeat(np.arange(geometry.people), geometry.faces_per_person), of_thing[geometry.thing])
    )
    labels = of_surface.astype(np.int16)[sight.surface]
    front = np.flatnonzero(sight.face >= 0)
    labels[front] = of_face[sight.face[front]]
    return labels


def _picture(
    painter: Painter, sight: Sight, labels: Int[np.ndarray, "H W"], random: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """The photograph; exposed for all but the sky."""
    light = painter.colors(sight, np.arange(labels.size)).reshape(3, *labels.shape)
    smooth_edges(light, _edges(labels))
    light *= exposure(light, labels != SKY, random)[:, None, None]
    return photograph(light, random)


def _edges(labels: Int[np.ndarray, "H W"]) -> np.ndarray:
    """(H, W) bool: pixels with a neighbour that shows something else."""
    edges = np.zeros(labels.shape, bool)
    for near, far in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differ = labels[near] != labels[far]
        edges[near] |= differ
        edges[far] |= differ
    return edges


def _with_evidence(
    people: People, camera: Camera, labels: Int[np.ndarray, "H W"], depth: Float[np.ndarray, "H W"]
) -> People:
    count = len(people)
    return replace(
        people,
        masks=Masks.from_dense(labels[None] == np.arange(count)[:, None, None]),
        boxes_px=boxes_around(labels, count),
        scores=np.ones(count),
        keypoints_px=true_keypoints(people, camera, labels, depth),
    )


def _material(kind: str, random: np.random.Generator) -> Material:
    texture = draw_texture(_THING_TEXTURES[int(random.integers(len(_THING_TEXTURES)))], random)
    color = random_color(random, (0.0, 0.8), (0.1, 0.95))
    if kind == "crown":
        texture = draw_texture("grain", random)
        color = linear((random.uniform(0.2, 0.5), random.uniform(0.35, 0.55), random.uniform(0.1, 0.3)))
    return Material(texture, float(random.uniform(0.5, 2.5)), np.stack((color * random.uniform(0.4, 0.9), color)),
                    (random.random(), random.random()))  # fmt: skip
