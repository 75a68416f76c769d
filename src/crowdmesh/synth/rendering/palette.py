"""Colours of the synthetic world: skin, hair, cloth and materials, in linear light."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh.synth.rendering.textures import Texture

# sRGB of skin from light to dark, and of hair; plausible values chosen by eye.
SKIN_SRGB = np.array(
    [(247, 218, 199), (238, 199, 172), (226, 178, 146), (205, 150, 115), (176, 120, 86), (141, 90, 62), (104, 66, 46),
     (74, 48, 36)]
) / 255.0  # fmt: skip
HAIR_SRGB = np.array(
    [(24, 20, 18), (46, 33, 25), (80, 54, 36), (112, 76, 46), (158, 113, 66), (203, 166, 105), (130, 62, 34)]
) / 255.0  # fmt: skip
GREY_HAIR_SRGB = np.array([(140, 138, 136), (196, 194, 190), (228, 227, 224)]) / 255.0
IRIS_SRGB = np.array([(60, 40, 26), (92, 62, 36), (70, 94, 74), (84, 112, 140)]) / 255.0

_STEPS, _BRIGHTEST = 1 << 14, 4.0  # of the table of sRGB values
_KNEE = 0.5


@dataclass(frozen=True, eq=False)
class Material:
    """A textured colour.

    Attributes:
        texture: which repeats every ``repeat_m`` metres. offset: of its origin, in repeats.
        colors: linear (2, 3): where the texture is 0 and where it is 1.
    """

    texture: Texture
    repeat_m: float
    colors: Float[np.ndarray, "2 3"]
    offset: tuple[float, float] = (0.0, 0.0)


def linear(srgb: Float[np.ndarray, "*n 3"] | tuple[float, float, float]) -> Float[np.ndarray, "*n 3"]:
    """Linear light of sRGB in [0, 1] (IEC 61966-2-1), to six decimals."""
    srgb = np.asarray(srgb, float).clip(0.0, 1.0)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).round(6)


def encoded(light: Float[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """8-bit sRGB (IEC 61966-2-1) of linear light; from 0.5 on highlights are compressed, as cameras do."""
    steps = light * np.float32((_STEPS - 1) / _BRIGHTEST)
    steps += np.float32(0.5)
    return _encoding().take(np.minimum(steps, np.float32(_STEPS), out=steps).astype(np.intp), mode="clip")


@lru_cache(maxsize=1)
def _encoding() -> np.ndarray:
    light = np.arange(_STEPS) * (_BRIGHTEST / (_STEPS - 1))
    above = np.maximum(light - _KNEE, 0.0)
    light = np.minimum(np.where(above > 0.0, _KNEE + above / (1.0 + above / (1.1 * (1.0 - _KNEE))), light), 1.0)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255.0 * curve.round(9)).astype(np.uint8)


def random_color(
    random: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Float[np.ndarray, " 3"]:
    """Linear colour of uniform hue with an HSV saturation and value in the given ranges."""
    hue, s, v = 6.0 * random.random(), random.uniform(*saturation), random.uniform(*value)
    pure = np.clip(np.abs((np.array((0.0, 4.0, 2.0)) + hue) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return linear(v * (1.0 - s + s * pure))


def between(random: np.random.Generator, srgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " 3"]:
    """Linear colour on the way from one sRGB colour of a list to the next."""
    place = random.random() * (len(srgb) - 1)
    low = int(place)
    return linear(srgb[low] * (low + 1 - place) + srgb[low + 1] * (place - low))
