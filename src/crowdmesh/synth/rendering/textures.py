"""Procedural textures: scalar fields on a torus with a mip chain, so that far surfaces blur instead of flickering.

Only +, -, *, /, floor and look-ups in float32 and whole numbers: the same numbers on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError

_SIZE = 256
_LEVELS = 9  # 256, 128 ... 1
_OFFSETS = np.cumsum([0, *((_SIZE >> level) ** 2 for level in range(_LEVELS))])[:-1].astype(np.intp)

TEXTURE_KINDS = ("plain", "noise", "grain", "tiles", "bricks", "boards", "checks", "stripes", "spots", "slabs")
"""What :func:`draw_texture` knows."""

_VARIANTS = 5


@dataclass(frozen=True, eq=False)
class Texture:
    """A scalar field on [0, 1), repeated in both directions, with values in [0, 1].

    Attributes:
        texels: all mip levels one after the other, finest (256 x 256, row by row) first.
    """

    texels: Float[np.ndarray, " N"]

    def sample(
        self, u: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"], footprint: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Values at (u, v), in repeats of the texture, averaged over about ``footprint`` repeats."""
        # The exponent of a float32 is the floor of its binary logarithm.
        texels = footprint * np.float32(_SIZE / 0.75) + np.float32(1e-9)
        level = np.clip((texels.view(np.int32) >> 23) - 127, 0, _LEVELS - 1)
        size = np.intp(_SIZE) >> level
        x, left = _split(u, size)
        y, top = _split(v, size)
        right, bottom = (left + 1) & (size - 1), (top + 1) & (size - 1)
        base = _OFFSETS[level]
        top, bottom = base + top * size, base + bottom * size
        upper = self.texels[top + left] * (1 - x) + self.texels[top + right] * x
        lower = self.texels[bottom + left] * (1 - x) + self.texels[bottom + right] * x
        return upper * (1 - y) + lower * y


def texture_of(field: Float[np.ndarray, "256 256"]) -> Texture:
    """The texture of one finest level."""
    levels = [field.astype(np.float32)]
    while len(levels[-1]) > 1:
        last = levels[-1]
        levels.append((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]) * np.float32(0.25))
    return Texture(np.concatenate([level.ravel() for level in levels]))


def draw_texture(kind: str, random: np.random.Generator) -> Texture:
    """A random texture of a kind of :data:`TEXTURE_KINDS`, one of a fixed library that is made once."""
    return library_texture(kind, int(random.integers(_VARIANTS)))


@lru_cache(maxsize=len(TEXTURE_KINDS) * _VARIANTS)
def library_texture(kind: str, variant: int) -> Texture:
    """One texture of the library; one repeat holds eight tiles, boards or stripes.

    Raises:
        InputError: unknown kind.
    """
    if kind not in TEXTURE_KINDS:
        raise InputError(f"unknown texture {kind!r}; use one of {', '.join(TEXTURE_KINDS)}")
    random = np.random.Generator(np.random.PCG64((TEXTURE_KINDS.index(kind), variant)))
    rough = fractal_noise(random, 4, 6)
    if kind == "plain":
        return texture_of(0.4 + 0.2 * fractal_noise(random, 2, 2))
    if kind == "noise":
        return texture_of(rough)
    if kind == "grain":
        return texture_of(0.55 * fractal_noise(random, 32, 3) + 0.45 * fractal_noise(random, 4, 2))
    row, column = np.mgrid[:_SIZE, :_SIZE]
    if kind in ("checks", "stripes", "spots"):
        return texture_of(_figures(kind, row, column) * 0.85 + 0.15 * rough)
    height, width, shift = {
        "tiles": (32, 32, 0),
        "bricks": (16, 32, 16),
        "boards": (32, 256, 0),
        "slabs": (64, 64, 32),
    }[kind]
    course = row // height
    if kind == "boards":
        shift = int(random.integers(1, 255))
    across = (column + course * shift) % _SIZE
    joint = (row % height < 2) | (across % width < 2)
    shades = random.random((_SIZE // height, _SIZE // width))
    shade = shades[course, across // width]
    if kind == "boards":
        rough = np.repeat(fractal_noise(random, 16, 4)[:, ::32], 32, 1)
    return texture_of(np.where(joint, 0.0, 0.35 + 0.35 * shade + 0.3 * rough))


def fractal_noise(random: np.random.Generator, cells: int, octaves: int) -> Float[np.ndarray, "256 256"]:
    """Smooth value noise on the torus in [0, 1]: octaves of halving strength, the coarsest of ``cells`` cells."""
    total, weight = np.zeros((_SIZE, _SIZE)), 0.0
    for octave, (low, high, share) in enumerate(_octaves(cells, octaves)):
        lattice = random.random((cells << octave, cells << octave))
        rows = lattice[low] * (1 - share[:, None]) + lattice[high] * share[:, None]
        total += 0.5**octave * (rows[:, low] * (1 - share) + rows[:, high] * share)
        weight += 0.5**octave
    return total / weight


def noise_line(random: np.random.Generator, cells: int, octaves: int) -> Float[np.ndarray, " 256"]:
    """The same along a line."""
    total, weight = np.zeros(_SIZE), 0.0
    for octave, (low, high, share) in enumerate(_octaves(cells, octaves)):
        lattice = random.random(cells << octave)
        total += 0.5**octave * (lattice[low] * (1 - share) + lattice[high] * share)
        weight += 0.5**octave
    return total / weight


def _octaves(cells: int, octaves: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Lower and upper lattice point of every texel and the smooth way between them, octave by octave."""
    for octave in range(octaves):
        count = cells << octave
        if count > _SIZE:
            return
        position = np.arange(_SIZE) * (count / _SIZE)
        low = position.astype(int)
        share = position - low
        yield low, (low + 1) % count, share * share * (3.0 - 2.0 * share)


def _figures(kind: str, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    if kind == "checks":
        return ((row // 32 + column // 32) % 2).astype(float)
    if kind == "stripes":
        return (column // 16 % 2).astype(float)
    return ((row % 32 - 16) ** 2 + (column % 32 - 16) ** 2 < 81).astype(float)


def _split(position: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fraction and index of the texel left of a position in repeats; texel centres lie at +0.5."""
    texel = (position - np.floor(position)) * size.astype(np.float32) - np.float32(0.5)
    low = np.floor(texel)
    return texel - low, low.astype(np.intp) & (size - 1)
