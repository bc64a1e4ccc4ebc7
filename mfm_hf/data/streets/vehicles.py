"""The cars, trucks, buses and trams of the built-in streets: bodies of flat faces, seen from any side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from mfm_hf.data.streets.geometry import LABELS, Material, Shape, newell_normals

Point = tuple[float, float]


@dataclass(frozen=True)
class Vehicle:
    """A vehicle as a list of F flat faces around its middle: x to its right, y up, z ahead, in metres.

    Attributes:
        points: float (sum K, 3), the corners of the faces one after another.
        starts: int (F,), the first corner of every face.
        normals: float (F, 3), pointing out of the vehicle.
        layers: int (F,), what is painted later because it lies on something: 0 the body, 1 a window, 2 a hub.
        extents: float (F,), the size of the faces in metres (the root of twice their area).
        labels, materials: one per face.
        length: metres from rear to front.
    """

    points: np.ndarray
    starts: np.ndarray
    normals: np.ndarray
    layers: np.ndarray
    extents: np.ndarray
    labels: tuple[int, ...]
    materials: tuple[Material, ...]
    length: float

    def placed(self, x: float, z: float, heading: float, variant: int, eye_height: float) -> list[Shape]:
        """The faces that a camera at (0, eye_height, 0) can make out, far ones first.

        Heading 0 drives away, pi comes closer. Faces smaller than about half a percent of the image are left out.
        """
        cos, sin = np.cos(heading), np.sin(heading)
        rotation = np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
        points = self.points @ rotation + (x, 0.0, z)
        ends = np.append(self.starts[1:], len(points))
        centres = np.add.reduceat(points, self.starts) / (ends - self.starts)[:, None]
        facing = ((self.normals @ rotation) * (centres - (0.0, eye_height, 0.0))).sum(axis=1) < 0
        facing &= self.extents > 0.005 * z
        order = np.lexsort((-centres[:, 2], self.layers))
        return [
            Shape(points[self.starts[face] : ends[face]], self.labels[face], self.materials[face], variant)
            for face in order[facing[order]].tolist()
        ]


class _Body:
    """Collects the faces of a vehicle whose outline from the side is extruded across its width."""

    def __init__(self, label: str) -> None:
        self.label = LABELS[label]
        self.faces: list[tuple[np.ndarray, int, Material, int, np.ndarray]] = []

    def extrude(self, outline: Sequence[Point], half_width: Callable[[float], float], material: Material) -> _Extrusion:
        """Add a body. `outline` holds (z, y) from the lower rear corner over the top to the lower front corner."""
        middle = np.array([0.0, np.mean([y for _, y in outline]), np.mean([z for z, _ in outline])])
        part = _Extrusion(self, outline, half_width, middle)
        part.on_sides(list(outline), material, layer=0)
        for segment in range(len(outline) - 1):
            part.on_end(segment, -1.0, 1.0, 0.0, 1.0, material, layer=0)
        return part

    def add(self, points: list[tuple[float, float, float]], material: Material, layer: int, middle: np.ndarray) -> None:
        """Add one face whose normal points away from `middle`."""
        self.faces.append((np.array(points), self.label, material, layer, middle))

    def shadow(self, half_width: float, rear: float, front: float) -> None:
        """Add the dark road under the vehicle."""
        corners = [
            (-half_width, 0.0, rear),
            (half_width, 0.0, rear),
            (half_width, 0.0, front),
            (-half_width, 0.0, front),
        ]
        self.faces.append((np.array(corners), LABELS["road"], Material.SHADOW, -1, np.array([0.0, -1.0, 0.0])))

    def finish(self, length: float) -> Vehicle:
        points = np.concatenate([face[0] for face in self.faces])
        sizes = np.array([len(face[0]) for face in self.faces])
        starts = np.cumsum(sizes) - sizes
        normals = newell_normals(points, starts)
        outward = np.add.reduceat(points, starts) / sizes[:, None] - np.stack([face[4] for face in self.faces])
        normals *= np.where((normals * outward).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        return Vehicle(
            points,
            starts,
            normals,
            np.array([face[3] for face in self.faces]),
            np.sqrt(np.linalg.norm(normals, axis=1)),
            tuple(face[1] for face in self.faces),
            tuple(face[2] for face in self.faces),
            length,
        )


@dataclass(frozen=True)
class _Extrusion:
    """One extruded part of a body, on whose faces windows, wheels and lamps are put."""

    body: _Body
    outline: Sequence[Point]
    half_width: Callable[[float], float]
    middle: np.ndarray

    def on_sides(self, polygon: Sequence[Point], material: Material, layer: int = 1) -> None:
        """Put a polygon of (z, y) on both sides."""
        for side in (-1.0, 1.0):
            self.body.add([(side * self.half_width(y), y, z) for z, y in polygon], material, layer, self.middle)

    def on_end(
        self, segment: int, left: float, right: float, low: float, high: float, material: Material, layer: int = 1
    ) -> None:
        """Put a quadrilateral on the face over one segment of the outline.

        `left` and `right` run from -1 to 1 across the width, `low` and `high` from 0 to 1 along the segment.
        """
        (rear, bottom), (front, top) = self.outline[segment], self.outline[segment + 1]

        def point(across: float, along: float) -> tuple[float, float, float]:
            y = bottom + (top - bottom) * along
            return across * self.half_width(y), y, rear + (front - rear) * along

        corners = [point(left, low), point(right, low), point(right, high), point(left, high)]
        self.body.add(corners, material, layer, self.middle)

    def wheels(self, positions: Sequence[float], radius: float) -> None:
        """Put a tyre and a hub on both sides at each z, and the tyres that rear and front show below the body."""
        for end, bottom in (self.outline[0], self.outline[-1]):
            for side in (-1.0, 1.0):
                outer, inner, z = side * self.half_width(bottom), side * self.half_width(bottom) * 0.72, end * 0.93
                corners = [(outer, 0.0, z), (inner, 0.0, z), (inner, bottom + 0.1, z), (outer, bottom + 0.1, z)]
                self.body.add(corners, Material.TYRE, 0, self.middle)
        for position in positions:
            self.on_sides(_disc(position, radius, radius), Material.TYRE)
            self.on_sides(_disc(position, radius, radius * 0.5), Material.TRIM, layer=2)

    def windows(self, start: float, stop: float, number: int, low: float, high: float) -> None:
        """Put a row of windows on both sides."""
        pitch = (stop - start) / number
        for position in range(number):
            rear, front = start + (position + 0.06) * pitch, start + (position + 0.94) * pitch
            self.on_sides([(rear, low), (rear, high), (front, high), (front, low)], Material.GLASS)


def _disc(z: float, y: float, radius: float) -> list[Point]:
    angles = np.arange(10) * (2 * np.pi / 10)
    return [(z + radius * float(np.cos(angle)), y + radius * float(np.sin(angle))) for angle in angles]


def _tapered(width: float, roof_width: float, shoulder: float, roof: float) -> Callable[[float], float]:
    """Half the width at a height: constant up to the shoulder, then narrowing to the roof."""

    def half_width(y: float) -> float:
        return float(np.interp(y, (shoulder, roof), (width / 2, roof_width / 2)))

    return half_width


@cache
def car() -> Vehicle:
    """A hatchback."""
    body = _Body("car")
    body.shadow(1.0, -2.2, 2.2)
    outline = [(-2.05, 0.3), (-2.1, 0.92), (-1.7, 1.44), (0.3, 1.46), (1.05, 0.98), (2.05, 0.8), (2.1, 0.3)]
    part = body.extrude(outline, _tapered(1.8, 1.36, 0.95, 1.46), Material.PAINT)
    part.on_sides([(-1.75, 1.0), (-1.5, 1.36), (-0.55, 1.38), (-0.55, 1.0)], Material.GLASS)
    part.on_sides([(-0.45, 1.0), (-0.45, 1.38), (0.25, 1.38), (0.88, 1.0)], Material.GLASS)
    part.on_end(1, -0.88, 0.88, 0.1, 0.85, Material.GLASS)
    part.on_end(3, -0.9, 0.9, 0.12, 0.92, Material.GLASS)
    _car_lamps(part, rear=0, front=5)
    part.wheels((-1.28, 1.32), 0.33)
    return body.finish(4.3)


@cache
def van() -> Vehicle:
    """A delivery van or a people carrier; Cityscapes counts both as cars."""
    body = _Body("car")
    body.shadow(1.05, -2.4, 2.4)
    outline = [(-2.3, 0.35), (-2.35, 1.15), (-2.2, 1.9), (0.9, 1.92), (1.6, 1.12), (2.3, 0.95), (2.35, 0.35)]
    part = body.extrude(outline, _tapered(1.9, 1.6, 1.1, 1.92), Material.PAINT)
    part.on_sides([(-1.9, 1.2), (-1.85, 1.75), (-0.4, 1.75), (-0.4, 1.2)], Material.GLASS)
    part.on_sides([(-0.25, 1.2), (-0.25, 1.75), (0.85, 1.75), (1.35, 1.2)], Material.GLASS)
    part.on_end(1, -0.85, 0.85, 0.15, 0.8, Material.GLASS)
    part.on_end(3, -0.9, 0.9, 0.12, 0.92, Material.GLASS)
    _car_lamps(part, rear=0, front=5)
    part.wheels((-1.5, 1.5), 0.35)
    return body.finish(4.7)


def _car_lamps(part: _Extrusion, rear: int, front: int) -> None:
    for left, right in ((-0.97, -0.66), (0.66, 0.97)):
        part.on_end(rear, left, right, 0.55, 0.92, Material.TAIL_LIGHT)
        part.on_end(front, left, right, 0.1, 0.42, Material.HEAD_LIGHT)
    part.on_end(rear, -0.28, 0.28, 0.42, 0.62, Material.SIGN_WHITE)
    part.on_end(rear, -1.0, 1.0, 0.0, 0.2, Material.TRIM)
    part.on_end(front, -0.55, 0.55, 0.25, 0.6, Material.TRIM)
    part.on_end(front, -1.0, 1.0, 0.8, 1.0, Material.TRIM)


@cache
def bus() -> Vehicle:
    """A city bus: one long box with a row of windows, doors and a lit destination board."""
    body = _Body("bus")
    body.shadow(1.35, -5.6, 5.6)
    outline = [(-5.5, 0.35), (-5.5, 3.05), (5.4, 3.05), (5.5, 0.35)]
    part = body.extrude(outline, _tapered(2.5, 2.4, 2.6, 3.05), Material.BUS_PAINT)
    part.windows(-5.2, 5.1, 7, 1.35, 2.55)
    for door in (-0.6, 4.3):
        part.on_sides([(door, 0.45), (door, 2.5), (door + 0.95, 2.5), (door + 0.95, 0.45)], Material.GLASS)
    part.on_end(0, -0.85, 0.85, 0.42, 0.85, Material.GLASS)
    part.on_end(0, -0.6, 0.6, 0.1, 0.28, Material.TRIM)
    part.on_end(2, -0.92, 0.92, 0.2, 0.68, Material.GLASS)
    part.on_end(2, -0.7, 0.7, 0.04, 0.15, Material.LAMP_AMBER)
    for left, right in ((-0.96, -0.75), (0.75, 0.96)):
        part.on_end(0, left, right, 0.1, 0.32, Material.TAIL_LIGHT)
        part.on_end(2, left, right, 0.8, 0.92, Material.HEAD_LIGHT)
    part.wheels((-3.0, 3.1), 0.48)
    return body.finish(11.0)


@cache
def truck() -> Vehicle:
    """A lorry: a blank cargo box, a chassis and a cab."""
    body = _Body("truck")
    body.shadow(1.3, -4.3, 4.0)
    chassis = body.extrude(
        [(-4.1, 0.45), (-4.1, 1.0), (3.8, 1.0), (3.8, 0.45)], _tapered(2.2, 2.2, 1, 2), Material.TRIM
    )
    cargo = body.extrude([(-4.2, 1.0), (-4.2, 3.5), (1.6, 3.5), (1.6, 1.0)], _tapered(2.5, 2.5, 1, 4), Material.CARGO)
    cab = body.extrude(
        [(1.9, 0.5), (1.9, 2.8), (3.5, 2.8), (3.95, 1.6), (4.0, 0.5)], _tapered(2.4, 2.2, 2, 3), Material.PAINT
    )
    cargo.on_sides([(-4.2, 1.0), (-4.2, 1.2), (1.6, 1.2), (1.6, 1.0)], Material.TRIM)
    cargo.on_end(0, -0.03, 0.03, 0.0, 1.0, Material.TRIM)
    cargo.on_end(0, -1.0, 1.0, 0.0, 0.08, Material.TRIM)
    for left, right in ((-1.0, -0.72), (0.72, 1.0)):
        chassis.on_end(0, left, right, 0.3, 0.8, Material.TAIL_LIGHT)
        cab.on_end(3, left * 0.95, right * 0.95, 0.55, 0.75, Material.HEAD_LIGHT)
    cab.on_sides([(2.5, 1.7), (2.5, 2.5), (3.4, 2.5), (3.7, 1.7)], Material.GLASS)
    cab.on_end(2, -0.9, 0.9, 0.15, 0.95, Material.GLASS)
    cab.on_end(3, -0.6, 0.6, 0.15, 0.5, Material.TRIM)
    chassis.wheels((-3.1, -2.0, 2.8), 0.5)
    return body.finish(8.2)


@cache
def tram() -> Vehicle:
    """A tram of two cars with sloping fronts, a band of windows and a coloured skirt; Cityscapes calls it a train."""
    body = _Body("train")
    body.shadow(1.35, -13.0, 13.0)
    for rear, front in ((-13.0, -0.3), (0.3, 13.0)):
        outline = [
            (rear, 0.25),
            (rear - 0.2, 1.3),
            (rear + 0.5, 3.4),
            (front - 0.5, 3.4),
            (front + 0.2, 1.3),
            (front, 0.25),
        ]
        part = body.extrude(outline, _tapered(2.65, 2.3, 2.8, 3.4), Material.TRAM_PAINT)
        part.on_sides([(rear, 0.25), (rear - 0.1, 0.8), (front + 0.1, 0.8), (front, 0.25)], Material.TRIM)
        part.windows(rear + 0.8, front - 0.8, 6, 1.4, 2.7)
        # Only the outer ends: a window of the inner ends, painted late, would shine through the nearer car.
        window, lamps, lamp = (1, 0, Material.TAIL_LIGHT) if rear < -1 else (3, 4, Material.HEAD_LIGHT)
        part.on_end(window, -0.9, 0.9, 0.1, 0.75, Material.GLASS)
        for left, right in ((-0.9, -0.65), (0.65, 0.9)):
            part.on_end(lamps, left, right, 0.4, 0.65, lamp)
    return body.finish(26.5)
