"""The people and two-wheelers of the built-in streets: flat figures that can be turned around their vertical axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import hypot
from typing import NamedTuple

import numpy as np

from mfm_hf.data.streets.geometry import LABELS, Material, Shape

Point = tuple[float, float]


class Part(NamedTuple):
    """One polygon of a figure: (K, 2) corners, metres ahead of its middle and above the ground."""

    points: np.ndarray
    label: int
    material: Material


@dataclass(frozen=True)
class Figure:
    """A flat figure of parts, later ones over earlier ones. `points` are the corners of all parts, (sum K, 2)."""

    parts: tuple[Part, ...]
    points: np.ndarray

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Figure:
        """The figure of these parts."""
        parts = tuple(parts)
        return cls(parts, np.concatenate([part.points for part in parts]))

    def placed(self, x: float, z: float, heading: float, size: float, variant: int) -> list[Shape]:
        """The figure in the world. Heading 0 faces right, pi faces left; what lies between is foreshortened."""
        ahead = np.array([[np.cos(heading) * size, 0.0, np.sin(heading) * size], [0.0, size, 0.0]])
        corners = self.points @ ahead + (x, 0.0, z)
        shapes, start = [], 0
        for points, label, material in self.parts:
            end = start + len(points)
            shapes.append(Shape(corners[start:end], label, material, variant))
            start = end
        return shapes


def limb(start: Point, end: Point, start_width: float, end_width: float) -> np.ndarray:
    """A tapered bar between two points, (4, 2)."""
    (ax, ay), (bx, by) = start, end
    length = hypot(bx - ax, by - ay)
    x, y = (ay - by) / length / 2, (bx - ax) / length / 2  # half a unit across
    return np.array(
        [
            (ax + x * start_width, ay + y * start_width),
            (bx + x * end_width, by + y * end_width),
            (bx - x * end_width, by - y * end_width),
            (ax - x * start_width, ay - y * start_width),
        ]
    )


def disc(x: float, y: float, radius: float, corners: int = 10) -> np.ndarray:
    """A regular polygon, (corners, 2)."""
    return _unit_disc(corners) * radius + (x, y)


@cache
def _unit_disc(corners: int) -> np.ndarray:
    angles = (np.arange(corners) + 0.5) * (2 * np.pi / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _body(label: int, hip: Point, shoulder: Point, head: Point, hand: Point) -> list[Part]:
    """Torso, arm and head, shared by walkers and riders."""
    elbow = ((shoulder[0] + hand[0]) / 2 - 0.05, (shoulder[1] + hand[1]) / 2 - 0.05)
    return [
        Part(limb(hip, shoulder, 0.38, 0.44), label, Material.CLOTH),
        Part(limb(shoulder, elbow, 0.14, 0.12), label, Material.CLOTH),
        Part(limb(elbow, hand, 0.11, 0.09), label, Material.SKIN),
        Part(limb(shoulder, head, 0.13, 0.13), label, Material.SKIN),
        Part(disc(head[0], head[1], 0.135, 8), label, Material.SKIN),
        Part(disc(head[0] - 0.02, head[1] + 0.06, 0.125, 8), label, Material.HAIR),
    ]


@cache
def person(pose: int) -> Figure:
    """A standing (0), walking (1) or striding (2) person of 1.75 m."""
    label = LABELS["person"]
    stride = (0.09, 0.2, 0.32)[pose]
    back_knee, front_knee = (-stride * 0.35, 0.46), (stride * 0.75, 0.5)
    legs = [
        Part(limb((-0.05, 0.92), back_knee, 0.19, 0.15), label, Material.TROUSERS),
        Part(limb(back_knee, (-stride, 0.02), 0.15, 0.12), label, Material.TROUSERS),
        Part(limb((0.05, 0.92), front_knee, 0.19, 0.15), label, Material.TROUSERS),
        Part(limb(front_knee, (stride, 0.02), 0.15, 0.12), label, Material.TROUSERS),
    ]
    body = _body(label, (0.0, 0.85), (0.0, 1.42), (0.02, 1.61), (stride * 0.9 + 0.12, 0.85))
    return Figure.of([*legs, *body])


@cache
def bicycle(ridden: bool) -> Figure:
    """A bicycle, with a rider on it if `ridden`."""
    label, rider = LABELS["bicycle"], LABELS["rider"]
    wheels = [
        Part(disc(x, 0.35, radius, 12), label, material)
        for x in (-0.53, 0.55)
        for radius, material in ((0.36, Material.TYRE), (0.27, Material.SPOKES))
    ]
    bars = [
        ((-0.53, 0.35), (-0.2, 0.85)),
        ((-0.2, 0.8), (0.38, 0.85)),
        ((0.0, 0.32), (0.4, 0.8)),
        ((-0.53, 0.35), (0.0, 0.32)),
        ((-0.24, 0.95), (0.0, 0.32)),
        ((0.38, 1.02), (0.55, 0.35)),
    ]
    frame = [Part(limb(start, end, 0.075, 0.075), label, Material.PAINT) for start, end in bars]
    fittings = [
        Part(limb((-0.38, 0.98), (-0.1, 0.98), 0.1, 0.07), label, Material.TYRE),
        Part(limb((0.28, 1.05), (0.48, 1.03), 0.06, 0.06), label, Material.TYRE),
    ]
    if not ridden:
        return Figure.of([*wheels, *frame, *fittings])
    legs = [
        Part(limb((-0.2, 1.02), (0.18, 0.72), 0.2, 0.16), rider, Material.TROUSERS),
        Part(limb((0.18, 0.72), (0.05, 0.26), 0.16, 0.11), rider, Material.TROUSERS),
    ]
    body = _body(rider, (-0.22, 1.0), (0.12, 1.5), (0.2, 1.74), (0.42, 1.06))
    return Figure.of([*wheels, *frame, *fittings, *legs, *body])


@cache
def motorcycle(ridden: bool) -> Figure:
    """A motorcycle, with a helmeted rider on it if `ridden`."""
    label, rider = LABELS["motorcycle"], LABELS["rider"]
    tank = np.array([(-0.85, 0.78), (-0.75, 0.95), (-0.1, 0.82), (0.15, 1.0), (0.5, 0.92), (0.45, 0.6), (-0.35, 0.5)])
    machine = [
        Part(disc(-0.68, 0.33, 0.34, 12), label, Material.TYRE),
        Part(disc(-0.68, 0.33, 0.15, 8), label, Material.TRIM),
        Part(disc(0.74, 0.33, 0.34, 12), label, Material.TYRE),
        Part(disc(0.74, 0.33, 0.15, 8), label, Material.TRIM),
        Part(limb((-0.4, 0.45), (0.4, 0.45), 0.38, 0.34), label, Material.TRIM),
        Part(limb((0.46, 0.95), (0.74, 0.33), 0.12, 0.1), label, Material.TRIM),
        Part(tank, label, Material.PAINT),
        Part(limb((-0.75, 0.9), (-0.05, 0.85), 0.12, 0.1), label, Material.TYRE),
        Part(limb((0.3, 1.12), (0.55, 1.0), 0.08, 0.08), label, Material.TYRE),
        Part(disc(0.6, 0.9, 0.11, 8), label, Material.HEAD_LIGHT),
    ]
    if not ridden:
        return Figure.of(machine)
    legs = [
        Part(limb((-0.25, 0.95), (0.22, 0.72), 0.22, 0.17), rider, Material.TROUSERS),
        Part(limb((0.22, 0.72), (0.0, 0.32), 0.17, 0.13), rider, Material.TROUSERS),
    ]
    body = _body(rider, (-0.3, 0.92), (-0.02, 1.42), (0.08, 1.62), (0.38, 1.08))
    helmet = Part(disc(0.08, 1.66, 0.17, 10), rider, Material.PAINT)
    return Figure.of([*machine, *legs, *body, helmet])
