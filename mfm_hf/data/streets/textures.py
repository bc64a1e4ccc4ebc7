"""Patterns on the surfaces of the built-in streets: noise, windows, shop fronts, bricks and bars."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from mfm_hf.data.streets.geometry import Camera, Material, Surfaces
from mfm_hf.data.streets.scenery import FLOOR

_TILE = 1024  # cells along one side of the noise
_CELLS = 32  # of them to a metre


@cache
def _noise(exponent: float) -> np.ndarray:
    """Noise that repeats, float32 (_TILE, _TILE): mean 0, standard deviation 1, amplitude 1 / frequency ** exponent."""
    spectrum = np.fft.rfft2(np.random.default_rng(19).standard_normal((_TILE, _TILE)))
    frequency = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None, :])
    amplitude = np.maximum(frequency, 5 / _TILE) ** -exponent
    amplitude[0, 0] = 0
    tile = np.fft.irfft2(spectrum * amplitude)
    return (tile / tile.std()).astype(np.float32)


def noise_at(first: np.ndarray, second: np.ndarray, phase: np.ndarray, fine: bool = True) -> np.ndarray:
    """Noise of mean 0 and standard deviation 1 at two coordinates in metres, float32 in their common shape.

    Fine noise has stains, leaves and dirt in it; the other is as smooth as clouds. Both repeat after 32 m.
    """
    columns = ((first * _CELLS).astype(np.int32) + phase[0]) & (_TILE - 1)
    rows = ((second * _CELLS).astype(np.int32) + phase[1]) & (_TILE - 1)
    return _noise(1.25 if fine else 1.9)[rows, columns]


def add_patterns(
    image: np.ndarray,
    materials: np.ndarray,
    variants: np.ndarray,
    surfaces: Surfaces,
    camera: Camera,
    colors: np.ndarray,
    glass: np.ndarray,
) -> None:
    """Put windows, shop windows, mortar and bars on their surfaces, in place.

    Args:
        image: float32 (H, W, 3).
        materials, variants: of every shape, (N + 1,).
        surfaces, camera: what every pixel sees.
        colors: float32 (N + 1, 3), the colour of every shape.
        glass: float32 (3,), the colour of a window pane.
    """
    pixel_size = 1.0 / (camera.focal * image.shape[0])  # metres at a depth of one metre
    seen = materials[surfaces.ids]
    for material, pattern in _PATTERNS.items():
        rows, columns = np.nonzero(seen == material)
        if not len(rows):
            continue
        ids = surfaces.ids[rows, columns]
        depth, x, y = surfaces.depth[rows, columns], surfaces.x[rows, columns], surfaces.y[rows, columns]
        normal_x, normal_z = surfaces.normals[ids, 0], surfaces.normals[ids, 2]
        along = np.where(np.abs(normal_x) > np.abs(normal_z), depth, x)
        high = depth * pixel_size
        wide = high / np.maximum(np.abs(normal_x * x / depth + normal_z), 0.05)
        cover, color = pattern(_Patch(variants[ids], along, y, wide, high, colors[ids], glass))
        image[rows, columns] += (color - image[rows, columns]) * cover[:, None]


class _Patch(NamedTuple):
    """The P pixels that see one material."""

    variants: np.ndarray  # int (P,), of their shapes
    along: np.ndarray  # (P,), metres along the wall
    up: np.ndarray  # (P,), metres above the ground
    wide: np.ndarray  # (P,), metres of wall across a pixel
    high: np.ndarray  # (P,), metres of wall from its top to its bottom
    colors: np.ndarray  # (P, 3), of their shapes
    glass: np.ndarray  # (3,)

    def bits(self, shift: int) -> np.ndarray:
        """A number from 0 to 1 out of the variant, (P,)."""
        return ((self.variants >> shift) & 7) / np.float32(7)


def _stripes(
    position: np.ndarray, period: np.ndarray | float, share: np.ndarray | float, pixel: np.ndarray
) -> np.ndarray:
    """Cover of a pixel, 0 to 1, by stripes that take the middle `share` of each `period` (metres)."""
    distance = np.abs(position / period % 1.0 - 0.5)
    sharp = np.clip((share / 2 - distance) * period / pixel + 0.5, 0.0, 1.0)
    coarse = np.clip(pixel / period * 2 - 0.6, 0.0, 1.0)  # stripes finer than the pixels become their mean
    return sharp + (share - sharp) * coarse


# Each pattern gives its cover of the pixels, (P,) from 0 to 1, and its colour there, (P, 3).
_Pattern = Callable[[_Patch], tuple[np.ndarray, np.ndarray]]


def _windows(patch: _Patch) -> tuple[np.ndarray, np.ndarray]:
    """Windows on every floor, as wide and as high as the variant says; some panes are lit or have a curtain."""
    period = 1.7 + 1.5 * patch.bits(2)
    columns = _stripes(patch.along, period, 0.38 + 0.25 * patch.bits(5), patch.wide)
    rows = _stripes(patch.up - 0.25, FLOOR, 0.42 + 0.2 * patch.bits(8), patch.high)
    cell = (patch.along / period).astype(np.int32) * 31 + (patch.up / FLOOR).astype(np.int32) * 17 + patch.variants
    shine = np.array([0.8, 0.9, 1.0, 0.75, 1.1, 1.5, 0.85, 2.2], np.float32)[cell * 40503 >> 4 & 7]
    return columns * rows, patch.glass * shine[:, None]


def _shop_windows(patch: _Patch) -> tuple[np.ndarray, np.ndarray]:
    """Wide panes between narrow pillars on the ground floor."""
    panes = _stripes(patch.along, 3.0 + patch.bits(3), 0.82, patch.wide)
    return panes * _stripes(patch.up + 0.05, FLOOR, 0.68, patch.high), patch.glass * 0.9 + patch.colors * 0.15


def _mortar(patch: _Patch) -> tuple[np.ndarray, np.ndarray]:
    """The joints of a wall of blocks."""
    joints = np.maximum(_stripes(patch.up, 0.4, 0.14, patch.high), _stripes(patch.along, 1.6, 0.05, patch.wide))
    return joints * 0.5, patch.colors * 0.62


def _gaps(patch: _Patch) -> tuple[np.ndarray, np.ndarray]:
    """The dark gaps between the bars and rails of a fence."""
    gaps = _stripes(patch.along, 0.34, 0.55, patch.wide) * (1 - _stripes(patch.up, 0.8, 0.14, patch.high))
    return gaps * 0.8, patch.colors * 0.35 + np.array([0.08, 0.1, 0.06], np.float32)


_PATTERNS: dict[Material, _Pattern] = {
    Material.FACADE: _windows,
    Material.SHOP: _shop_windows,
    Material.WALL: _mortar,
    Material.FENCE: _gaps,
}
