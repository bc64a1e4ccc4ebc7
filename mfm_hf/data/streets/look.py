"""How the pictures of the two built-in domains differ: their light, their weather and their cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfm_hf.data.streets.palettes import GAME_PALETTE, REAL_PALETTE, Palette

Range = tuple[float, float]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Sky:
    """A kind of sky. Colours run from 0 to 1, `clouds` is the range of their amount; a covered one throws no shadow."""

    zenith: Color
    horizon: Color
    cloud: Color
    clouds: Range
    covered: bool


@dataclass(frozen=True)
class Look:
    """How the pictures of a domain look. Ranges are uniform.

    Attributes:
        palette: the colours of every material.
        skies: the kinds of sky, equally frequent.
        glass: colour of a window pane, 0 to 1.
        ambient: share of the light that comes from everywhere, under an open sky.
        shadow_reach: metres that the houses on the sunny side throw their shadow over the road.
        mottle: strength of the stains, the cracks and the leafiness of surfaces.
        grain: strength of their fine grain.
        haze: density per metre.
        exposure, saturation, warmth: factors on the picture; warmth above 1 is redder.
        vignette: darkening of the corners.
        blur: weight that a pixel gives to each of its two neighbours, per pass.
        sensor_noise: standard deviation of the noise, of 1.
    """

    palette: Palette
    skies: tuple[Sky, ...]
    glass: Color
    ambient: Range
    shadow_reach: Range
    mottle: Range
    grain: Range
    haze: Range
    exposure: Range
    saturation: Range
    warmth: Range
    vignette: Range
    blur: Range
    sensor_noise: Range


GAME = Look(
    palette=GAME_PALETTE,
    skies=(
        Sky((0.25, 0.5, 0.93), (0.7, 0.85, 0.98), (1.0, 1.0, 1.0), (-0.6, 0.3), covered=False),
        Sky((0.36, 0.52, 0.85), (0.98, 0.86, 0.72), (1.0, 0.93, 0.85), (-0.5, 0.3), covered=False),
        Sky((0.62, 0.7, 0.8), (0.84, 0.88, 0.92), (0.96, 0.96, 0.97), (0.2, 0.7), covered=True),
    ),
    glass=(0.2, 0.33, 0.5),
    ambient=(0.55, 0.7),
    shadow_reach=(0.0, 3.0),
    mottle=(0.04, 0.08),
    grain=(0.0, 0.015),
    haze=(0.0005, 0.0025),
    exposure=(0.9, 1.1),
    saturation=(1.0, 1.15),
    warmth=(0.98, 1.02),
    vignette=(0.0, 0.1),
    blur=(0.0, 0.02),
    sensor_noise=(0.0, 0.003),
)
REAL = Look(
    palette=REAL_PALETTE,
    skies=(
        Sky((0.7, 0.73, 0.77), (0.84, 0.84, 0.83), (0.92, 0.92, 0.92), (0.3, 0.9), covered=True),
        Sky((0.5, 0.61, 0.77), (0.82, 0.83, 0.82), (0.94, 0.93, 0.9), (-0.3, 0.7), covered=False),
        Sky((0.6, 0.65, 0.72), (0.92, 0.84, 0.72), (0.97, 0.9, 0.8), (-0.2, 0.6), covered=False),
    ),
    glass=(0.13, 0.14, 0.16),
    ambient=(0.4, 0.7),
    shadow_reach=(1.0, 8.0),
    mottle=(0.1, 0.22),
    grain=(0.015, 0.06),
    haze=(0.002, 0.016),
    exposure=(0.65, 1.3),
    saturation=(0.5, 1.05),
    warmth=(0.8, 1.25),
    vignette=(0.1, 0.3),
    blur=(0.02, 0.16),
    sensor_noise=(0.006, 0.04),
)


@dataclass(frozen=True)
class Conditions:
    """The light and the camera of one picture: everything that is drawn once, whatever the size of the picture.

    Attributes:
        sky: the sky above.
        sun: (3,), unit vector towards the sun.
        ambient, shadow_reach, mottle, grain, haze, saturation, vignette, blur, sensor_noise: as in `Look`.
        gain: (3,), exposure and white balance.
        clouds: amount of clouds.
        phase: (2,) int, where the noise of the surfaces begins.
    """

    sky: Sky
    sun: np.ndarray
    ambient: float
    shadow_reach: float
    mottle: float
    grain: float
    haze: float
    saturation: float
    vignette: float
    blur: float
    sensor_noise: float
    gain: np.ndarray
    clouds: float
    phase: np.ndarray


def draw_conditions(look: Look, rng: np.random.Generator) -> Conditions:
    """Draw the conditions of one picture."""
    sky = look.skies[int(rng.integers(len(look.skies)))]
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.2)
    warmth = rng.uniform(*look.warmth)
    exposure, ambient, reach = rng.uniform(*look.exposure), rng.uniform(*look.ambient), rng.uniform(*look.shadow_reach)
    return Conditions(
        sky=sky,
        sun=np.array([np.cos(azimuth) * np.cos(height), np.sin(height), np.sin(azimuth) * np.cos(height)]),
        ambient=0.9 if sky.covered else ambient,
        shadow_reach=0.0 if sky.covered else reach,
        mottle=rng.uniform(*look.mottle),
        grain=rng.uniform(*look.grain),
        haze=rng.uniform(*look.haze),
        saturation=rng.uniform(*look.saturation),
        vignette=rng.uniform(*look.vignette),
        blur=rng.uniform(*look.blur),
        sensor_noise=rng.uniform(*look.sensor_noise),
        gain=(exposure * np.array([warmth, 1.0, 1.0 / warmth])).astype(np.float32),
        clouds=rng.uniform(*sky.clouds),
        phase=rng.integers(1024, size=2),
    )
