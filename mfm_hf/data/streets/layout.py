"""How the scenes of the two built-in domains are laid out: their cameras, their roads and how often things occur."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """How the scenes of a domain are laid out. Ranges are uniform, numbers of things are means per scene.

    Attributes:
        focal, camera_height, horizon: ranges of the camera, in image heights, metres and image heights.
        lanes: smallest and largest number of lanes on the other side of the road.
        floors: smallest and largest number of floors of a house.
        lots: relative frequency of a house, a park, a walled, a fenced and a hedged plot along the road.
        verge: probability of grass between the road and the pavement.
        bonnet: probability that the bonnet of the recording car is in the image.
        traffic: moving cars; parked: share of the kerb taken by parked cars.
        trucks, buses, trams, persons, bicycles, motorcycles, trees: numbers; a tram brings its rails.
    """

    focal: Range
    camera_height: Range
    horizon: Range
    lanes: tuple[int, int]
    floors: tuple[int, int]
    lots: tuple[float, float, float, float, float]
    verge: float
    bonnet: float
    traffic: float
    parked: float
    trucks: float
    buses: float
    trams: float
    persons: float
    bicycles: float
    motorcycles: float
    trees: float


GAME = Layout(
    focal=(0.95, 1.2),
    camera_height=(1.6, 2.3),
    horizon=(0.38, 0.48),
    lanes=(1, 3),
    floors=(3, 12),
    lots=(0.5, 0.14, 0.14, 0.12, 0.1),
    verge=0.3,
    bonnet=0.0,
    traffic=7.0,
    parked=0.45,
    trucks=0.5,
    buses=0.4,
    trams=0.25,
    persons=9.0,
    bicycles=0.9,
    motorcycles=0.9,
    trees=5.0,
)
REAL = Layout(
    focal=(1.1, 1.35),
    camera_height=(1.2, 1.6),
    horizon=(0.42, 0.52),
    lanes=(1, 2),
    floors=(2, 5),
    lots=(0.46, 0.22, 0.1, 0.1, 0.12),
    verge=0.35,
    bonnet=0.5,
    traffic=5.0,
    parked=0.4,
    trucks=0.35,
    buses=0.35,
    trams=0.22,
    persons=8.0,
    bicycles=1.6,
    motorcycles=0.6,
    trees=8.0,
)
