"""Colours of what the camera meets: bodies, solids and the place, in linear light.

Everything is float32 and element by element, with +, -, *, /, square root and floor alone, whose results IEEE 754
prescribes to the last bit: the same colours on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.synth.rendering import wardrobe
from crowdmesh.synth.rendering.backdrop import Place, Wall
from crowdmesh.synth.rendering.bodymap import BodyMap
from crowdmesh.synth.rendering.light import Light
from crowdmesh.synth.rendering.palette import Material
from crowdmesh.synth.rendering.rays import Geometry, Sight
from crowdmesh.synth.rendering.textures import library_texture
from crowdmesh.synth.rendering.wardrobe import Looks
from crowdmesh.visual.shading import surface_weights

_PIECE = 1 << 15
_GLOSS = 0.05
_GRAIN = library_texture("grain", 0)
_WORN = library_texture("noise", 0)
_WORN_REPEATS = np.float32(1.0 / 23.0)  # per metre of ground
_ROUGH_REPEATS = np.float32(6.0)  # per metre of body surface
_ROUGHNESS = np.array((0.1, 1.1, 0.3, 0.35, 0.3, 0, 0.5, 0.1, 0.3, 0.35), np.float32)  # by region
_CLOUD_HEIGHT = 0.06  # keeps the clouds at the horizon from shrinking to nothing


@dataclass(frozen=True, eq=False)
class Painter:
    """All that decides the colour of a point once it is known what is seen there.

    Attributes:
        normals: unit vertex normals of all people one after the other, camera frame.
        materials: one per solid of the geometry.
        pixel: size of a pixel at a distance of one metre (1 / focal length).
        direct, ambient: light left by shadows on the ground, by pixel.
    """

    body: BodyMap
    looks: Looks
    geometry: Geometry
    normals: Float[np.ndarray, "P 3"]
    materials: tuple[Material, ...]
    place: Place
    light: Light
    pixel: float
    direct: Float[np.ndarray, " pixels"]
    ambient: Float[np.ndarray, " pixels"]

    def colors(self, sight: Sight, pixels: Int[np.ndarray, " N"]) -> Float[np.ndarray, "3 N"]:
        """Linear colours; ``pixels`` are the image pixels in which the points lie (for shadows)."""
        out = np.empty((3, len(pixels)), np.float32)
        # In pieces that fit the processor's cache.
        for start in range(0, len(pixels), _PIECE):
            piece = slice(start, start + _PIECE)
            self._paint(sight[piece], pixels[piece], out[:, piece])
        return out

    def _paint(self, sight: Sight, pixels: np.ndarray, out: np.ndarray) -> None:
        face = sight.face
        body = (face >= 0) & (face < self.geometry.body_faces)
        solid = face >= self.geometry.body_faces
        for chosen, painted in ((body, self._bodies), (solid, self._solids)):
            chosen = np.flatnonzero(chosen)
            if len(chosen):
                _put(out, chosen, painted(sight[chosen]))
        behind = np.where(face >= 0, -1, sight.surface)
        for surface in np.flatnonzero(np.bincount(behind + 1)[1:]):
            chosen = np.flatnonzero(behind == surface)
            _put(out, chosen, self._surface(int(surface), sight[chosen], pixels[chosen]))
        if np.isfinite(self.light.haze_m):
            share = sight.depth / (sight.depth + np.float32(self.light.haze_m))
            share[behind == 0] = 0
            out += (_column(self.light.haze) - out) * share

    def _bodies(self, sight: Sight) -> np.ndarray:
        faces, count = self.body.faces, len(self.body.place)
        person, face = np.divmod(sight.face, np.int32(len(faces)))
        local = faces[face]
        corners = local + (person * np.int32(count))[:, None]
        position = sight.position
        weights = surface_weights(position.T, self.geometry.vertices_m[corners]).T
        normal = _unit(_mix(weights, self.normals, corners))
        to_eye = _unit(-position)
        normal *= np.where((normal * to_eye).sum(0) < 0, np.float32(-1), np.float32(1))
        place, along = _mix(weights, self.body.place, local), _mix(weights, self.body.along[:, None], local)[0]
        width = sight.depth * np.float32(self.pixel)
        # Locks of hair and the weave of cloth: noise in places on the body, different for everybody.
        spot = place[1] + place[2] + np.float32(0.37) * person
        rough = _GRAIN.sample(place[0] * _ROUGH_REPEATS, spot * _ROUGH_REPEATS, width * _ROUGH_REPEATS)
        region = wardrobe.regions(self.looks, person, self.body.part[face], place, along, rough)
        albedo = self.looks.colors[person, region].T.astype(np.float32)
        albedo *= 1 + _ROUGHNESS[region] * (rough - np.float32(0.5))
        for cloth, second, pattern in (
            (wardrobe.TOP, wardrobe.TOP2, self.looks.top_pattern),
            (wardrobe.BOTTOM, wardrobe.BOTTOM2, self.looks.bottom_pattern),
        ):
            worn = np.flatnonzero((region == cloth) & (pattern != 0).any(1)[person])
            if len(worn):
                share = _pattern(pattern[person[worn]], self.looks.checked[person[worn]], place[:, worn], width[worn])
                other = self.looks.colors[person[worn], second].T
                albedo[:, worn] += (other - albedo[:, worn]) * share
        # The skin lets through a little light; what faces away from the eye looks darker (cloth) or glossy (skin).
        rim = 1 - np.maximum((normal * to_eye).sum(0), 0)
        return albedo * self.light.on(normal) * (1 - np.float32(0.25) * rim * rim) + self._gloss(normal, to_eye, region)

    def _gloss(self, normal: np.ndarray, to_eye: np.ndarray, region: np.ndarray) -> np.ndarray:
        halfway = _unit(to_eye + _column(self.light.toward))
        shine = np.maximum((normal * halfway).sum(0), 0)
        for _ in range(4):
            shine = shine * shine
        dull = (region == wardrobe.TOP) | (region == wardrobe.BOTTOM)
        return _column(self.light.key) * (shine * np.where(dull, np.float32(0), np.float32(_GLOSS)))

    def _solids(self, sight: Sight) -> np.ndarray:
        corners = self.geometry.vertices_m[self.geometry.faces.numpy()[sight.face]]
        a, b, c = corners[:, 0].T, corners[:, 1].T, corners[:, 2].T
        position = sight.position
        normal = _unit(_cross(b - a, c - a))
        normal *= np.where((normal * position).sum(0) > 0, np.float32(-1), np.float32(1))
        spot = self._local(position)
        level = np.abs(sum(np.float32(r) * n for r, n in zip(self.place.axes[1], normal, strict=True))) > 0.7
        u, v = np.where(level, spot[0], spot[0] + spot[2]), np.where(level, spot[2], spot[1])
        width = sight.depth * np.float32(self.pixel)
        albedo = np.empty((3, len(width)), np.float32)
        thing = self.geometry.thing[sight.face - self.geometry.body_faces]
        for index in np.unique(thing):
            own = thing == index
            albedo[:, own] = _textured(self.materials[index], u[own], v[own], width[own])
        return albedo * self.light.on(normal)

    def _surface(self, surface: int, sight: Sight, pixels: np.ndarray) -> np.ndarray:
        """Colours of the place: sky, ground, walls, ceiling, layers."""
        if surface == 0:
            return self._sky(sight)
        place, walls = self.place, self.place.walls
        position = sight.position
        right, up, forward = self._local(position)
        width = sight.depth * np.float32(self.pixel)
        index = surface - 2
        if surface == 1 or (index == len(walls) and place.indoors):
            material = place.ground if surface == 1 else place.ceiling
            slant = np.maximum(np.abs(up - np.float32(place.height_m)), np.float32(0.05))
            distance = sight.depth
            # A level surface seen at a grazing angle: the pixel covers a strip as long as it is slanted.
            albedo = _textured(material, right, forward, width * np.sqrt(np.maximum(distance / slant, 1)))
            # Worn and dirty places, so that far ground is not one colour.
            worn = _WORN.sample(right * _WORN_REPEATS, forward * _WORN_REPEATS, width * _WORN_REPEATS)
            albedo *= np.float32(0.65) + np.float32(0.7) * worn
            normal = place.axes[1] if surface == 1 else -place.axes[1]
            if surface == 1:
                return albedo * self._even_light(normal, self.direct[pixels], self.ambient[pixels])
            return albedo * self._even_light(normal)
        if index < len(walls):
            wall = walls[index]
            along = forward if wall.axis == 0 else right
            albedo = _with_panels(_textured(wall.material, along, up, width), wall, along, up)
            sign = -1.0 if wall.place_m > 0 else 1.0
            return albedo * self._even_light(sign * place.axes[wall.axis])
        layer = place.layers[index - len(walls) - place.indoors]
        shade = layer.shade[layer.spot(right)[0]].astype(np.float32)
        return _textured(layer.material, right, up, width) * shade * self._even_light(-place.axes[2])

    def _even_light(
        self, normal: np.ndarray, direct: np.ndarray | float = 1.0, ambient: np.ndarray | float = 1.0
    ) -> np.ndarray:
        return self.light.on(_column(normal), direct, ambient)

    def _sky(self, sight: Sight) -> np.ndarray:
        ray = np.stack((sight.x, sight.y, np.ones_like(sight.x)))
        right, up, forward = (_dot(axis, ray) for axis in self.place.axes)
        up = np.maximum(_unit(np.stack((right, up, forward)))[1], 0)
        horizon, top = (_column(color) for color in self.place.sky)
        share = up * (2 - up)
        sky = horizon + (top - horizon) * share
        scale = 1 / (up + np.float32(_CLOUD_HEIGHT))
        texture, strength = self.place.clouds.texture, self.place.clouds.colors
        near = scale * np.float32(0.11)
        field = texture.sample(right * near, forward * near, scale * scale * np.float32(2e-5))
        cover = np.clip(np.float32(strength[0, 0]) + field * np.float32(strength[1, 0]), 0, 1)
        return sky + (np.float32(0.92) - sky) * cover * np.float32(0.8)

    def _local(self, position: np.ndarray) -> np.ndarray:
        """Points of the camera frame (3, n) in the frame of the place, float32."""
        local = [_dot(axis, position) for axis in self.place.axes]
        return np.stack((local[0], local[1] + np.float32(self.place.height_m), local[2]))


def _put(out: np.ndarray, chosen: np.ndarray, colors: np.ndarray) -> None:
    for channel, values in zip(out, colors, strict=True):
        channel[chosen] = values


def _textured(material: Material, u: np.ndarray, v: np.ndarray, width_m: np.ndarray) -> np.ndarray:
    repeats = np.float32(1.0 / material.repeat_m)
    across, up = (np.float32(value) for value in material.offset)
    share = material.texture.sample(u * repeats + across, v * repeats + up, width_m * repeats)
    dark, light = (_column(color) for color in material.colors)
    return dark + (light - dark) * share


def _with_panels(albedo: np.ndarray, wall: Wall, along: np.ndarray, up: np.ndarray) -> np.ndarray:
    for panel in wall.panels:
        beside = np.flatnonzero((along > panel.left_m) & (along < panel.right_m))
        inside = beside[(up[beside] > panel.bottom_m) & (up[beside] < panel.top_m)]
        albedo[:, inside] = _column(panel.color)
    return albedo


def _pattern(repeats: np.ndarray, checked: np.ndarray, place: np.ndarray, width_m: np.ndarray) -> np.ndarray:
    """Share of the second colour: stripes across or up, both added (slanted) or crossed (checks); soft when far."""
    across, up = place[0] + np.float32(0.8) * place[1], place[2]
    first, second = repeats[:, 0] * across, repeats[:, 1] * up
    crossed = checked & (repeats != 0).all(1)
    one = _stripe(np.where(crossed, first, first + second), np.abs(repeats[:, 0]) * width_m)
    two = _stripe(second, np.abs(repeats[:, 1]) * width_m)
    # Without crossing, the finer of both directions decides how soft it is.
    added = _stripe(first + second, (np.abs(repeats[:, 0]) + np.abs(repeats[:, 1])) * width_m)
    return np.where(crossed, one * (1 - two) + two * (1 - one), added)


def _stripe(position: np.ndarray, width: np.ndarray) -> np.ndarray:
    """A square wave of period 1 averaged over ``width`` periods."""
    phase = position - np.floor(position)
    edge = np.float32(0.25) - np.abs(phase - np.float32(0.5))
    wave = np.clip(edge / np.maximum(width, np.float32(0.02)) + np.float32(0.5), 0, 1)
    fade = np.clip(2 - 2 * width, 0, 1)
    return np.float32(0.5) + (wave - np.float32(0.5)) * fade


def _mix(weights: np.ndarray, values: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(C, n) values of three corners each, blended."""
    parts = [weights[i] * values[corners[:, i]].T for i in range(3)]
    return parts[0] + parts[1] + parts[2]


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(vectors[0] * vectors[0] + vectors[1] * vectors[1] + vectors[2] * vectors[2])
    return vectors / np.maximum(length, np.float32(1e-9))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


def _dot(vector: np.ndarray, points: np.ndarray) -> np.ndarray:
    a, b, c = (np.float32(value) for value in vector)
    return a * points[0] + b * points[1] + c * points[2]


def _column(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector, np.float32)[:, None]
