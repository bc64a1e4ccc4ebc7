"""What stands still in the built-in streets: ground, houses, walls, trees and the furniture of the pavement."""

from __future__ import annotations

from functools import cache

import numpy as np

from mfm_hf.data.streets.figures import disc, limb
from mfm_hf.data.streets.geometry import LABELS, Material, Shape

FLOOR = 3.2  # metres from one floor of a house to the next


def ground(x: tuple[float, float], z: tuple[float, float], label: str, material: Material, variant: int = 0) -> Shape:
    """A rectangle on the ground."""
    (left, right), (near, far) = x, z
    corners = np.array([(left, 0.0, near), (right, 0.0, near), (right, 0.0, far), (left, 0.0, far)])
    return Shape(corners, LABELS[label], material, variant)


def along(
    x: float, z: tuple[float, float], y: tuple[float, float], label: str, material: Material, variant: int = 0
) -> Shape:
    """An upright rectangle that runs along the road."""
    (near, far), (low, high) = z, y
    corners = np.array([(x, low, near), (x, high, near), (x, high, far), (x, low, far)])
    return Shape(corners, LABELS[label], material, variant)


def across(
    x: tuple[float, float], z: float, y: tuple[float, float], label: str, material: Material, variant: int = 0
) -> Shape:
    """An upright rectangle that faces the camera."""
    (left, right), (low, high) = x, y
    corners = np.array([(left, low, z), (left, high, z), (right, high, z), (right, low, z)])
    return Shape(corners, LABELS[label], material, variant)


def upright(points: np.ndarray, x: float, z: float, label: str, material: Material, variant: int = 0) -> Shape:
    """Any flat outline (K, 2) of metres to the right of `x` and above the ground, facing the camera."""
    corners = np.empty((len(points), 3))
    corners[:, 0] = points[:, 0] + x
    corners[:, 1] = points[:, 1]
    corners[:, 2] = z
    return Shape(corners, LABELS[label], material, variant)


def house(side: float, x: float, z: tuple[float, float], floors: int, pitched: bool, variant: int) -> list[Shape]:
    """A house whose front runs along the road at `x`; `side` is -1 on the left of the road and 1 on its right."""
    near, far = z
    top = floors * FLOOR + 0.6
    back = x + side * 14.0
    end = (min(x, back), max(x, back))
    shop = variant % 3 != 0
    shapes = []
    if pitched:
        ridge, middle = top + 3.2, x + side * 5.0
        slope = np.array([(x, top, near), (middle, ridge, near), (middle, ridge, far), (x, top, far)])
        gable = np.array([(x, top, near), (middle, ridge, near), (x + side * 10.0, top, near)])
        shapes += [
            Shape(slope, LABELS["building"], Material.ROOF, variant),
            Shape(gable, LABELS["building"], Material.FACADE, variant),
        ]
    shapes.append(along(x, z, (0.0, top), "building", Material.FACADE, variant))
    if shop:
        shapes.append(along(x, z, (0.0, FLOOR), "building", Material.SHOP, variant))
        shapes.append(along(x, z, (FLOOR, FLOOR + 0.5), "building", Material.CORNICE, variant))
    shapes.append(along(x, z, (top - 0.5, top), "building", Material.CORNICE, variant))
    shapes.append(across(end, near, (0.0, top), "building", Material.FACADE, variant))
    shapes.append(across(end, near, (top - 0.5, top), "building", Material.CORNICE, variant))
    return shapes


def wall(side: float, x: float, z: tuple[float, float], height: float, variant: int) -> list[Shape]:
    """A garden wall with a coping, along the road and round the near corner."""
    end = (min(x, x + side * 6.0), max(x, x + side * 6.0))
    coping = (height - 0.14, height)
    return [
        across(end, z[0], (0.0, height), "wall", Material.WALL, variant),
        across(end, z[0], coping, "wall", Material.KERB, variant),
        along(x, z, (0.0, height), "wall", Material.WALL, variant),
        along(x, z, coping, "wall", Material.KERB, variant),
    ]


def fence(side: float, x: float, z: tuple[float, float], height: float, variant: int) -> list[Shape]:
    """A fence, along the road and round the near corner; its bars are texture, since the gaps count as fence too."""
    end = (min(x, x + side * 6.0), max(x, x + side * 6.0))
    return [
        across(end, z[0], (0.0, height), "fence", Material.FENCE, variant),
        along(x, z, (0.0, height), "fence", Material.FENCE, variant),
    ]


def hedge(rng: np.random.Generator, x: float, z: tuple[float, float], height: float, variant: int) -> list[Shape]:
    """A hedge with an uneven top along the road."""
    steps = np.linspace(z[0], z[1], 9)
    tops = height * rng.uniform(0.8, 1.15, len(steps))
    outline = np.concatenate([np.stack([steps, tops], axis=1), [(z[1], 0.0), (z[0], 0.0)]])
    corners = np.stack([np.full(len(outline), x), outline[:, 1], outline[:, 0]], axis=1)
    low = corners * (1.0, 0.45, 1.0)
    return [
        Shape(corners, LABELS["vegetation"], Material.LEAF, variant),
        Shape(low, LABELS["vegetation"], Material.LEAF_DARK, variant),
    ]


def crown(
    rng: np.random.Generator, x: float, z: float, middle: float, radii: tuple[float, float], variant: int
) -> list[Shape]:
    """Foliage: a ragged blob with a darker foot and lighter lobes. `radii` are half its width and half its height."""
    discs, middles = _crown_lobes()
    ragged = discs * rng.uniform(0.82, 1.12, (len(discs), 1)) + middles
    corners = upright(ragged * radii + (0.0, middle), x, z, "vegetation", Material.LEAF).points
    shapes, start = [], 0
    for _, _, _, size, material in _LOBES:
        shapes.append(Shape(corners[start : start + size], LABELS["vegetation"], material, variant))
        start += size
    return shapes


# Lobes of a crown: middle to the right and up, radius, corners, material.
_LOBES = (
    (0.0, 0.0, 1.0, 18, Material.LEAF),
    (0.1, -0.45, 0.62, 12, Material.LEAF_DARK),
    (-0.35, 0.3, 0.5, 12, Material.LEAF_LIT),
    (0.3, 0.42, 0.42, 12, Material.LEAF_LIT),
    (-0.1, -0.05, 0.4, 12, Material.LEAF),
)


@cache
def _crown_lobes() -> tuple[np.ndarray, np.ndarray]:
    """The corners of all lobes around their own middles, and these middles, both (K, 2)."""
    discs = np.concatenate([disc(0.0, 0.0, radius, corners) for _, _, radius, corners, _ in _LOBES])
    middles = np.concatenate([np.tile((right, up), (corners, 1)) for right, up, _, corners, _ in _LOBES])
    return discs, middles


def tree(rng: np.random.Generator, x: float, z: float, height: float, variant: int) -> list[Shape]:
    """A tree that is round, slender or a conifer, as `variant` says."""
    form = variant % 5
    trunk_width = max(0.05 * height, 0.007 * z)
    if form == 0:
        trunk_top, radii, middle = 0.2 * height, (0.17 * height, 0.43 * height), 0.57 * height
    else:
        trunk_top, radii, middle = 0.5 * height, (0.36 * height, 0.33 * height), 0.67 * height
    shapes = [
        upright(
            limb((0, 0), (0, trunk_top), trunk_width, 0.7 * trunk_width), x, z, "vegetation", Material.BARK, variant
        )
    ]
    if form != 1:
        return shapes + crown(rng, x, z, middle, radii, variant)
    for low, high, half in ((0.14, 0.55, 0.24), (0.34, 0.78, 0.19), (0.56, 1.0, 0.13)):
        cone = np.array([(-half, low), (0.0, high), (half, low)]) * height
        lit = np.array([(-half, low), (0.0, high), (-0.2 * half, low)]) * height
        shapes.append(upright(cone, x, z, "vegetation", Material.LEAF_DARK, variant))
        shapes.append(upright(lit, x, z, "vegetation", Material.LEAF, variant))
    return shapes


def _post(x: float, z: float, height: float) -> Shape:
    width = max(0.13, 0.0085 * z)  # a real one would vanish between the pixels of a small image
    return upright(limb((0, 0), (0, height), width, width * 0.8), x, z, "pole", Material.STEEL)


def street_lamp(x: float, z: float, side: float) -> list[Shape]:
    """A lamp post whose arm reaches over the road."""
    width = max(0.1, 0.006 * z)
    arm = limb((0.0, 6.8), (-side * 1.8, 7.2), width, width)
    head = limb((-side * 1.5, 7.15), (-side * 2.4, 7.25), 0.22, 0.16)
    return [_post(x, z, 7.0), upright(arm, x, z, "pole", Material.STEEL), upright(head, x, z, "pole", Material.CASING)]


def traffic_light(x: float, z: float, side: float, lit: int) -> list[Shape]:
    """A traffic light on a post; far from the kerb it hangs from an arm over the road as well."""
    lamps = (Material.LAMP_RED, Material.LAMP_AMBER, Material.LAMP_GREEN)
    heads = [(0.0, 3.3)]
    shapes = [_post(x, z, 5.6 if lit % 2 else 3.4)]
    if lit % 2:
        width = max(0.11, 0.007 * z)
        shapes.append(upright(limb((0, 5.5), (-side * 3.4, 5.6), width, width), x, z, "pole", Material.STEEL))
        heads.append((-side * 3.3, 5.2))
    for right, middle in heads:
        case = limb((right, middle - 0.62), (right, middle + 0.62), 0.56, 0.56)
        shapes.append(upright(case, x, z, "traffic light", Material.CASING))
        for position, lamp in enumerate(lamps):
            material = lamp if position == lit % 3 else Material.TYRE
            spot = disc(right, middle + 0.38 * (1 - position), 0.17, 8)
            shapes.append(upright(spot, x, z, "traffic light", material))
    return shapes


def traffic_sign(x: float, z: float, variant: int) -> list[Shape]:
    """A sign on a post: a disc, a triangle, a diamond or a board."""
    form = variant % 4
    outline = (
        disc(0.0, 0.0, 0.4, 12),
        np.array([(-0.46, -0.34), (0.0, 0.46), (0.46, -0.34)]),
        np.array([(-0.44, 0.0), (0.0, 0.44), (0.44, 0.0), (0.0, -0.44)]),
        np.array([(-0.36, -0.46), (-0.36, 0.46), (0.36, 0.46), (0.36, -0.46)]),
    )[form]
    return [
        _post(x, z, 2.4),
        upright(outline + np.array([0.0, 2.6]), x, z, "traffic sign", Material.SIGN, variant),
        upright(outline * 0.58 + np.array([0.0, 2.6]), x, z, "traffic sign", Material.SIGN_WHITE, variant),
    ]


def litter_bin(x: float, z: float) -> list[Shape]:
    """A litter bin: a thing that belongs to no class."""
    body = limb((0, 0), (0, 0.95), 0.5, 0.6)
    return [
        upright(body, x, z, "unlabelled", Material.BIN),
        upright(body * (1.1, 0.15) + (0, 0.9), x, z, "unlabelled", Material.TYRE),
    ]
