"""The geometry under a built-in street scene: shapes in the world, a camera, and what every pixel sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import reduce
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX

LABELS = CITYSCAPES.label2id | {"unlabelled": IGNORE_INDEX}
NEAR = 0.6  # metres; what lies nearer is moved to this depth, so that every point has a projection
SKY_DEPTH = np.float32(1000)  # metres
SUPERSAMPLING = 2  # shapes are painted this much finer than the image, for smooth edges in it


class Material(IntEnum):
    """What the surface of a shape is made of. The look of a domain gives each material its colours and its texture."""

    SKY = 0
    ASPHALT = auto()
    MARKING = auto()
    RAIL = auto()
    PAVING = auto()
    KERB = auto()
    GRASS = auto()
    SHADOW = auto()
    FACADE = auto()
    SHOP = auto()
    CORNICE = auto()
    ROOF = auto()
    WALL = auto()
    FENCE = auto()
    STEEL = auto()
    CASING = auto()
    LAMP_RED = auto()
    LAMP_AMBER = auto()
    LAMP_GREEN = auto()
    SIGN = auto()
    SIGN_WHITE = auto()
    LEAF = auto()
    LEAF_LIT = auto()
    LEAF_DARK = auto()
    BARK = auto()
    SKIN = auto()
    HAIR = auto()
    CLOTH = auto()
    TROUSERS = auto()
    PAINT = auto()
    BUS_PAINT = auto()
    TRAM_PAINT = auto()
    CARGO = auto()
    GLASS = auto()
    TYRE = auto()
    SPOKES = auto()
    TRIM = auto()
    TAIL_LIGHT = auto()
    HEAD_LIGHT = auto()
    BIN = auto()
    BONNET = auto()


class Shape(NamedTuple):
    """A flat polygon in the world.

    Attributes:
        points: float (K, 3), corners in metres: x to the right of the camera, y above the ground, z ahead.
        label: train id of Cityscapes, or 255.
        material: what it is made of.
        variant: a non-negative number that picks one colour of the material; the parts of an object share it.
    """

    points: np.ndarray
    label: int
    material: Material
    variant: int = 0


@dataclass(frozen=True)
class Camera:
    """A camera that looks along the road. Lengths in the image are in units of the image height.

    Attributes:
        focal: focal length in image heights.
        height: metres above the ground.
        horizon: how far below the upper border the horizon lies, in image heights.
        shift: how far the vanishing point of the road lies to the right of the image centre, in image heights.
    """

    focal: float
    height: float
    horizon: float
    shift: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) in metres to image points (N, 2), in heights from the middle of the upper border."""
        scale = self.focal / np.maximum(points[:, 2], NEAR)
        return np.stack(
            [self.shift + points[:, 0] * scale, self.horizon + (self.height - points[:, 1]) * scale], axis=1
        )

    def rays(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Slopes x/z of the pixel columns, (1, W), and y/z of the pixel rows, (H, 1), both float32."""
        columns = ((np.arange(width) + 0.5) - width / 2) / height - self.shift
        rows = self.horizon - (np.arange(height) + 0.5) / height
        return (columns / self.focal).astype(np.float32)[None, :], (rows / self.focal).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Surfaces:
    """What each pixel sees. Shape number 0 is the sky, number k is `shapes[k - 1]`.

    Attributes:
        fine_ids: int32 (S * H, S * W), shape numbers at S = SUPERSAMPLING times the resolution of the image.
        ids: int32 (H, W), the last painted shape in every pixel: the nearest thing that touches it, so that thin things
            stay whole.
        normals: float32 (N + 1, 3), unit normal of every shape, towards the camera; zero for the sky.
        depth, x, y: float32 (H, W), the world point in metres: z, x and y. The sky is as far away as anything can be.
    """

    fine_ids: np.ndarray
    ids: np.ndarray
    normals: np.ndarray
    depth: np.ndarray
    x: np.ndarray
    y: np.ndarray


def newell_normals(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Normals (N, 3), as long as twice the area, of N polygons with corners (sum K, 3), the first ones at `starts`."""
    following = np.arange(1, len(points) + 1)
    ends = np.append(starts[1:], len(points))
    following[ends - 1] = starts
    return np.add.reduceat(np.cross(points, points[following]), starts)


def subpixels(fine: np.ndarray) -> list[np.ndarray]:
    """The S * S views (H, W) of a fine map (S * H, S * W), one for every place within a pixel."""
    steps = range(SUPERSAMPLING)
    return [fine[row::SUPERSAMPLING, column::SUPERSAMPLING] for row in steps for column in steps]


def look_at(shapes: Sequence[Shape], camera: Camera, height: int, width: int) -> Surfaces:
    """Paint the shapes in their order, later ones over earlier ones, and find the world point that each pixel sees."""
    points = np.concatenate([shape.points for shape in shapes]).astype(np.float64)
    sizes = np.array([len(shape.points) for shape in shapes])
    starts = np.cumsum(sizes) - sizes
    normals, offsets = _planes(points, starts, sizes, camera)

    fine_ids = _paint(camera.project(points), starts, sizes, height, width)
    ids = reduce(np.maximum, subpixels(fine_ids))

    # Along the pixel's ray r = (x/z, y/z, 1) the plane n.p = d of its shape is met at the depth d / n.r.
    columns, rows = camera.rays(height, width)
    slope = normals[ids, 0] * columns + normals[ids, 1] * rows + normals[ids, 2]
    depth = np.clip(np.abs(offsets[ids]) / np.maximum(np.abs(slope), 1e-3), NEAR, SKY_DEPTH)
    depth[ids == 0] = SKY_DEPTH
    return Surfaces(fine_ids, ids, normals, depth, depth * columns, camera.height + depth * rows)


def _planes(points: np.ndarray, starts: np.ndarray, sizes: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals towards the camera and plane offsets seen from it, with a zero row for the sky in front."""
    normals = newell_normals(points, starts)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    centres = np.add.reduceat(points, starts) / sizes[:, None] - (0.0, camera.height, 0.0)
    offsets = (normals * centres).sum(axis=1)
    normals *= -np.sign(offsets)[:, None]
    sky = np.zeros((1, 3))
    return np.concatenate([sky, normals]).astype(np.float32), np.concatenate([[0.0], offsets]).astype(np.float32)


def _paint(projected: np.ndarray, starts: np.ndarray, sizes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shape numbers at the fine resolution, int32 (S * H, S * W)."""
    extent = np.array([width, height]) * SUPERSAMPLING
    pixels = projected * (height * SUPERSAMPLING) + (extent[0] / 2 - 0.5, -0.5)
    inside = (np.minimum.reduceat(pixels, starts) < extent) & (np.maximum.reduceat(pixels, starts) > -1)
    canvas = Image.new("I", (int(extent[0]), int(extent[1])), 0)
    polygon = ImageDraw.Draw(canvas).polygon
    corners, firsts, ends = pixels.ravel().tolist(), (2 * starts).tolist(), (2 * (starts + sizes)).tolist()
    for index in np.flatnonzero(inside.all(axis=1)).tolist():
        polygon(corners[firsts[index] : ends[index]], fill=index + 1)
    return np.asarray(canvas)
