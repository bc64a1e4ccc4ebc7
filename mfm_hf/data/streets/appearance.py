"""How a built-in street scene becomes a picture: colours, light, texture, haze, sky and the marks of the camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfm_hf.data.streets.geometry import SUPERSAMPLING, Camera, Material, Shape, Surfaces, subpixels
from mfm_hf.data.streets.look import Conditions, Look, draw_conditions
from mfm_hf.data.streets.palettes import Palette
from mfm_hf.data.streets.textures import add_patterns, noise_at

# How strongly stains and grain show on a material; the others show them at a third.
_ROUGHNESS = np.full(len(Material), 0.35, np.float32)
_ROUGHNESS[[Material.LEAF, Material.LEAF_DARK, Material.LEAF_LIT]] = 1.5
_ROUGHNESS[[Material.GRASS, Material.BARK]] = 1.1
_ROUGHNESS[[Material.ASPHALT, Material.PAVING, Material.WALL, Material.MARKING]] = 0.8


def render(
    look: Look, shapes: Sequence[Shape], camera: Camera, surfaces: Surfaces, rng: np.random.Generator
) -> np.ndarray:
    """Take the picture of a scene.

    Args:
        look: how pictures of the domain look.
        shapes: the shapes of the scene, in painting order.
        camera: the camera behind `surfaces`.
        surfaces: what every pixel of the (H, W) image sees.
        rng: draws the conditions first, so that they do not depend on the size, and the noise last.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    conditions = draw_conditions(look, rng)
    materials = np.array([Material.SKY, *(shape.material for shape in shapes)])
    variants = np.array([0, *(shape.variant for shape in shapes)])
    colors = _shape_colors(look.palette, materials, variants)
    colors *= _light(conditions, surfaces.normals)[:, None]

    open_sky = _open_sky(surfaces.fine_ids)
    image = _smooth_colors(colors, surfaces.fine_ids)
    add_patterns(image, materials, variants, surfaces, camera, colors, np.array(look.glass, np.float32))
    image *= (_texture(conditions, materials, surfaces, rng) * _shadow(conditions, surfaces))[..., None]
    _add_haze(image, conditions, surfaces, open_sky)
    _add_sky(image, conditions, camera, open_sky)
    return _develop(image, conditions, rng)


def _shape_colors(palette: Palette, materials: np.ndarray, variants: np.ndarray) -> np.ndarray:
    """One colour per shape, (N, 3) float32 from 0 to 1, with a little variation in brightness."""
    brightness = 0.92 + 0.16 * ((variants * 7919 >> 3) % 64) / 64
    colors = palette.colors[materials, variants % palette.counts[materials]]
    return colors * brightness[:, None].astype(np.float32)


def _light(conditions: Conditions, normals: np.ndarray) -> np.ndarray:
    """Light on surfaces with the normals (N, 3), float32 (N,); 1 on the ground."""
    direct = np.minimum(np.maximum(normals @ conditions.sun, 0.0) / conditions.sun[1], 1.3)
    return (conditions.ambient + (1 - conditions.ambient) * direct).astype(np.float32)


def _smooth_colors(colors: np.ndarray, fine_ids: np.ndarray) -> np.ndarray:
    """The mean colour of the fine pixels under every pixel, (H, W, 3) float32. The sky counts as black."""
    colors = colors / np.float32(SUPERSAMPLING**2)
    colors[0] = 0
    first, *others = subpixels(fine_ids)
    image = colors[first]
    for ids in others:
        image += colors[ids]
    return image


def _open_sky(fine_ids: np.ndarray) -> np.ndarray:
    """Share of every pixel that sees the sky, float32 (H, W)."""
    seen = sum((ids == 0).astype(np.float32) for ids in subpixels(fine_ids))
    return np.asarray(seen / np.float32(SUPERSAMPLING**2))


def _texture(conditions: Conditions, materials: np.ndarray, surfaces: Surfaces, rng: np.random.Generator) -> np.ndarray:
    """Brightness factor (H, W) of stains, leaves and grain, which fade in the distance."""
    ids, depth = surfaces.ids, surfaces.depth
    along = np.where((np.abs(surfaces.normals[:, 0]) > 0.7)[ids], depth, surfaces.x)
    up = np.where((np.abs(surfaces.normals[:, 1]) > 0.5)[ids], depth, surfaces.y)
    pattern = conditions.mottle * noise_at(along, up, conditions.phase)
    if conditions.grain:
        pattern += np.float32(conditions.grain) * rng.standard_normal(ids.shape, np.float32)
    return np.maximum(1 + _ROUGHNESS[materials][ids] * pattern / (1 + depth / 80), np.float32(0.25))


def _shadow(conditions: Conditions, surfaces: Surfaces) -> np.ndarray | np.float32:
    """Brightness factor (H, W) of the shadow that the houses on the sunny side throw over the street."""
    if conditions.shadow_reach == 0:
        return np.float32(1)
    # One house after another, each nine metres long and as high as the noise says.
    houses = noise_at(np.floor(surfaces.depth / 9) * 3, np.zeros_like(surfaces.depth), conditions.phase)
    edge = 7.0 - conditions.shadow_reach * (1.0 + 0.35 * houses)
    shaded = (surfaces.y < 2.2) & (surfaces.x * np.sign(conditions.sun[0]) > edge)
    return np.where(shaded, np.float32(0.64), np.float32(1.0))


def _add_haze(image: np.ndarray, conditions: Conditions, surfaces: Surfaces, open_sky: np.ndarray) -> None:
    """Let the colour of the horizon gain over things with their depth, in place. `image` has black where the sky is."""
    haze = (1 - np.exp(-conditions.haze * surfaces.depth))[..., None]
    horizon = np.array(conditions.sky.horizon, np.float32)
    image += (horizon * (1 - open_sky)[..., None] - image) * haze


def _add_sky(image: np.ndarray, conditions: Conditions, camera: Camera, open_sky: np.ndarray) -> None:
    """Put the sky where it is seen, in place."""
    height, width = open_sky.shape
    columns, rows = camera.rays(height, width)
    last = int(np.flatnonzero(open_sky.any(axis=1)).max(initial=-1)) + 1
    sky = conditions.sky
    zenith, horizon, cloud = (np.array(color, np.float32) for color in (sky.zenith, sky.horizon, sky.cloud))
    slope = np.maximum(rows[:last], 0.0)
    colors = horizon + (zenith - horizon) * (np.minimum(slope * 2.0, 1.0) ** 0.7)[..., None]
    # A ceiling of clouds: the nearer to the horizon, the farther away and the smaller they are.
    distance = 2.2 / (0.16 + slope)
    clouds = noise_at(columns * distance, distance * 1.5, conditions.phase, fine=False)
    amount = np.clip(clouds * 0.7 + conditions.clouds, 0.0, 0.9)
    colors = colors + (cloud - colors) * amount[..., None]
    image[:last] += colors * open_sky[:last, :, None]


def _develop(image: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    """Blur, vignette, exposure, white balance, saturation and sensor noise: from light to uint8."""
    height, width, _ = image.shape
    if conditions.blur:
        for _ in range(max(1, height // 128)):
            image = _blur(image, np.float32(conditions.blur))
    if conditions.vignette:
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        image *= (1 - np.float32(conditions.vignette / 2) * (rows**2 + columns**2))[..., None]
    image *= conditions.gain
    grey = image @ np.full((3, 1), 1 / 3, np.float32)
    image = grey + (image - grey) * np.float32(conditions.saturation)
    if conditions.sensor_noise:
        image += np.float32(conditions.sensor_noise) * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _blur(image: np.ndarray, weight: np.float32) -> np.ndarray:
    """Each pixel gives `weight` to both neighbours, along both axes; the border repeats itself."""
    for axis in (0, 1):
        padding = [(1, 1) if axis == other else (0, 0) for other in range(3)]
        padded = np.pad(image, padding, mode="edge")
        before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
        image = image * (1 - 2 * weight) + (before + after) * weight
    return image
