"""One built-in street scene: its camera, its road, what stands along it and who is on it."""

from __future__ import annotations

import numpy as np

from mfm_hf.data.streets import figures, scenery, vehicles
from mfm_hf.data.streets.geometry import Camera, Material, Shape
from mfm_hf.data.streets.layout import Layout, Range

FAR = 110.0  # metres to which a street is furnished
LANE = 3.3  # metres


def lay_out(layout: Layout, rng: np.random.Generator) -> tuple[Camera, list[Shape]]:
    """Draw one scene: its camera, and its shapes in the order in which they are to be painted."""
    street = _Street(layout, rng)
    street.pave()
    street.build_side(-1.0)
    street.build_side(1.0)
    street.furnish()
    street.add_traffic()
    street.add_two_wheelers()
    street.add_people()
    return street.camera, street.shapes()


class _Street:
    """A scene in the making. The camera drives in the lane around x = 0."""

    def __init__(self, layout: Layout, rng: np.random.Generator) -> None:
        self.layout = layout
        self.rng = rng
        self.camera = Camera(
            focal=rng.uniform(*layout.focal),
            height=rng.uniform(*layout.camera_height),
            horizon=rng.uniform(*layout.horizon),
            shift=rng.uniform(-0.25, 0.25),
        )
        self.lanes = int(rng.integers(layout.lanes[0], layout.lanes[1] + 1))
        self.has_tram = self.chance(layout.trams)
        self.parking = self.chance(0.8), self.chance(0.8)  # left, right
        self.kerb = (
            -LANE * (0.5 + self.lanes + self.has_tram) - 2.2 * self.parking[0],
            LANE * 0.5 + 2.2 * self.parking[1],
        )
        self.verge = self.chance(layout.verge), self.chance(layout.verge)
        self.verge_width = rng.uniform(1.2, 2.4)
        self.pavement = rng.uniform(2.4, 4.8, 2)
        self.junction = rng.uniform(12.0, 60.0) if self.chance(0.7) else None
        self.floor: list[Shape] = []
        self.backdrop: list[Shape] = []
        self.things: list[tuple[float, list[Shape]]] = []

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def variant(self) -> int:
        """What tells one object of a kind from another."""
        return int(self.rng.integers(1 << 16))

    def edge(self, side: float) -> float:
        """Where the road ends on a side."""
        return self.kerb[int(side > 0)]

    def front(self, side: float) -> float:
        """Where the houses begin on a side."""
        green = self.verge_width * self.verge[int(side > 0)]
        return self.edge(side) + side * (green + self.pavement[int(side > 0)])

    def put(self, z: float, shapes: list[Shape]) -> None:
        """Add a thing; `z` decides what hides what."""
        self.things.append((z, shapes))

    def shapes(self) -> list[Shape]:
        """Everything in painting order. Nothing behind the house fronts can hide what is on the street."""
        ordered = sorted(self.things, key=lambda thing: -thing[0])
        painted = self.floor + self.backdrop + [shape for _, shapes in ordered for shape in shapes]
        return painted + self.bonnet()

    def pave(self) -> None:
        """Ground, pavements, road, rails, junction and markings, and what closes the view."""
        near, far = 0.0, 700.0
        self.floor.append(scenery.ground((-600.0, 600.0), (near, far), "terrain", Material.GRASS))
        for side in (-1.0, 1.0):
            edge, front, green = self.edge(side), self.front(side), self.verge_width * self.verge[int(side > 0)]
            walk = sorted((edge + side * green, front + side * 0.3))  # on under the houses: no seam
            self.floor.append(scenery.ground((walk[0], walk[1]), (near, far), "sidewalk", Material.PAVING))
            kerb = sorted((edge, edge + side * 0.22))
            self.floor.append(scenery.ground((kerb[0], kerb[1]), (near, far), "sidewalk", Material.KERB))
        self.floor.append(scenery.ground(self.kerb, (near, far), "road", Material.ASPHALT))
        if self.junction is not None:
            self.floor.append(
                scenery.ground((-90.0, 90.0), (self.junction, self.junction + 9.0), "road", Material.ASPHALT)
            )
        self.mark_road()
        self.close_view()

    def mark_road(self) -> None:
        """Lane lines, a zebra crossing before the junction, and rails."""

        def line(x: float, width: float, z: Range, material: Material = Material.MARKING) -> None:
            self.floor.append(scenery.ground((x - width / 2, x + width / 2), z, "road", material))

        stop = self.junction - 5.0 if self.junction is not None else FAR
        for lane in range(self.lanes):
            x = -LANE * (lane + 0.5)
            if lane == 0 and self.lanes > 1:
                line(x - 0.15, 0.15, (0.0, stop))
                line(x + 0.15, 0.15, (0.0, stop))
                continue
            phase = self.rng.uniform(0.0, 6.0)
            for start in np.arange(1.0 - phase, 60.0, 6.0):
                line(x, 0.18, (float(start), float(start) + 3.0))
        for side, parking in zip((-1.0, 1.0), self.parking, strict=True):
            if parking:
                line(self.edge(side) - side * 2.2, 0.13, (0.0, stop))
        if self.junction is not None:
            for x in np.arange(self.kerb[0] + 0.5, self.kerb[1] - 0.4, 1.1):
                line(float(x), 0.55, (self.junction - 4.2, self.junction - 1.0))
        if self.has_tram:
            for x in (-0.72, 0.72):
                line(self.tram_lane() + x, 0.14, (0.0, FAR), Material.RAIL)

    def tram_lane(self) -> float:
        return -LANE * (self.lanes + 1)

    def close_view(self) -> None:
        """Houses and trees at the end of the street."""
        rng = self.rng
        for _ in range(14):
            x, width = rng.uniform(-130.0, 130.0), rng.uniform(8.0, 20.0)
            height = rng.uniform(*self.layout.floors) * scenery.FLOOR * 0.9
            z = rng.uniform(145.0, 190.0)
            if self.chance(0.55):
                self.backdrop.append(
                    scenery.across((x, x + width), z, (0.0, height), "building", Material.FACADE, self.variant())
                )
            else:
                self.backdrop += scenery.crown(rng, x, z, 4.0, (width * 0.8, rng.uniform(5.0, 9.0)), self.variant())[:2]

    def build_side(self, side: float) -> None:
        """Plots along one side, with a gap where the side street leaves."""
        front, z, plots = self.front(side), 1.0, []
        weights = np.cumsum(self.layout.lots) / np.sum(self.layout.lots)
        makers = (self.house_plot, self.park_plot, self.walled_plot, self.fenced_plot, self.hedged_plot)
        while z < FAR:
            if self.junction is not None and abs(z - self.junction) < 0.1:
                z += 9.0
            length = self.rng.uniform(9.0, 24.0)
            end = z + length
            if self.junction is not None and z < self.junction < end + 4.0:
                end = self.junction
            plots.append(makers[int(np.searchsorted(weights, self.rng.random()))](side, front, (z, end)))
            z = end
        for plot in reversed(plots):
            self.backdrop += plot

    def house_plot(self, side: float, front: float, z: Range) -> list[Shape]:
        floors = int(self.rng.integers(self.layout.floors[0], self.layout.floors[1] + 1))
        return scenery.house(side, front, z, floors, floors < 6 and self.chance(0.6), self.variant())

    def grove(self, side: float, front: float, z: Range, number: int) -> list[Shape]:
        """Trees and bushes behind the front line, far ones first."""
        shapes: list[Shape] = []
        for depth in sorted(self.rng.uniform(z[0] + 1.0, z[1], number), reverse=True):
            x = front + side * self.rng.uniform(2.0, 14.0)
            if self.chance(0.3):
                bush = self.rng.uniform(0.8, 1.6)
                shapes += scenery.crown(self.rng, x, depth, bush * 0.7, (bush * 1.3, bush), self.variant())
            else:
                shapes += scenery.tree(self.rng, x, depth, self.rng.uniform(5.0, 11.0), self.variant())
        return shapes

    def park_plot(self, side: float, front: float, z: Range) -> list[Shape]:
        return self.grove(side, front, z, 4)

    def walled_plot(self, side: float, front: float, z: Range) -> list[Shape]:
        behind = self.grove(side, front, z, 2)
        if self.chance(0.5):
            behind = scenery.house(side, front + side * 7.0, z, 2, True, self.variant()) + behind
        return behind + scenery.wall(side, front, z, self.rng.uniform(1.4, 3.0), self.variant())

    def fenced_plot(self, side: float, front: float, z: Range) -> list[Shape]:
        return self.grove(side, front, z, 2) + scenery.fence(side, front, z, self.rng.uniform(1.2, 2.2), self.variant())

    def hedged_plot(self, side: float, front: float, z: Range) -> list[Shape]:
        behind = scenery.house(side, front + side * 5.0, z, 2, True, self.variant()) + self.grove(side, front, z, 1)
        return behind + scenery.hedge(self.rng, front, z, self.rng.uniform(1.2, 2.4), self.variant())

    def furnish(self) -> None:
        """Trees, posts, signs, lights and bins on both pavements, near the kerb."""
        rng = self.rng
        for side in (-1.0, 1.0):
            x = self.edge(side) + side * 0.7
            for z in rng.uniform(5.0, 70.0, rng.poisson(self.layout.trees / 2)):
                self.put(z, scenery.tree(rng, x + side * 0.4, z, rng.uniform(5.0, 8.0), self.variant()))
            for z in np.arange(rng.uniform(6.0, 22.0), 100.0, rng.uniform(18.0, 30.0)):
                self.put(float(z), scenery.street_lamp(x, float(z), side))
            for z in rng.uniform(6.0, 40.0, rng.poisson(1.4)):
                self.put(z, scenery.traffic_sign(x, z, self.variant()))
            for z in rng.uniform(5.0, 40.0, rng.poisson(0.4)):
                self.put(z, scenery.litter_bin(x + side * 0.6, z))
            if self.junction is not None:
                for z in (self.junction - 0.8, self.junction + 10.0):
                    self.put(z, scenery.traffic_light(x, z, side, int(rng.integers(6))))

    def drive(self, vehicle: vehicles.Vehicle, x: float, z: float, heading: float) -> None:
        heading += self.rng.normal(0.0, 0.03)
        self.put(z - vehicle.length / 2, vehicle.placed(x, z, heading, self.variant(), self.camera.height))

    def any_car(self) -> vehicles.Vehicle:
        return vehicles.van() if self.chance(0.25) else vehicles.car()

    def add_traffic(self) -> None:
        """Vehicles in every lane, far enough from each other, parked ones, and one that crosses at the junction."""
        lanes = [(0.0, 0.0)] + [(-LANE * (lane + 1), np.pi) for lane in range(self.lanes)]
        per_lane = self.layout.traffic / len(lanes)
        heavy = [vehicles.truck()] * self.chance(self.layout.trucks) + [vehicles.bus()] * self.chance(self.layout.buses)
        for x, heading in lanes:
            fleet = [self.any_car() for _ in range(self.rng.poisson(per_lane))]
            if heavy and self.chance(0.6):
                fleet.insert(int(self.rng.integers(len(fleet) + 1)), heavy.pop())
            z = self.rng.uniform(6.0, 16.0)
            for vehicle in fleet:
                z += vehicle.length / 2
                self.drive(vehicle, x + self.rng.normal(0.0, 0.2), z, heading)
                z += vehicle.length / 2 + self.rng.uniform(3.0, 20.0)
        if self.has_tram:
            self.drive(vehicles.tram(), self.tram_lane(), self.rng.uniform(22.0, 50.0), np.pi * self.chance(0.5))
        for side, parking in zip((-1.0, 1.0), self.parking, strict=True):
            if parking:
                self.park(self.edge(side) - side * 1.1, np.pi * (side < 0))
        if self.junction is not None and self.chance(0.5):
            x = self.rng.choice((-1.0, 1.0)) * self.rng.uniform(4.0, 14.0)
            self.drive(self.any_car(), x, self.junction + 4.5, self.rng.choice((-0.5, 0.5)) * np.pi)

    def park(self, x: float, heading: float) -> None:
        """Cars along a kerb; only near ones, since they hide each other."""
        for z in np.arange(self.rng.uniform(6.0, 11.0), 60.0, 5.6):
            blocked = self.junction is not None and -8.0 < z - self.junction < 14.0
            if not blocked and self.chance(self.layout.parked):
                self.drive(self.any_car(), x, float(z), heading)

    def add_two_wheelers(self) -> None:
        """Riders on the road, and bicycles and motorcycles that stand on the pavements."""
        rng = self.rng
        makers = ((figures.bicycle, self.layout.bicycles), (figures.motorcycle, self.layout.motorcycles))
        for maker, number in makers:
            for _ in range(rng.poisson(number)):
                ridden, side, z = self.chance(0.6), rng.choice((-1.0, 1.0)), rng.uniform(5.0, 26.0)
                lane_edge = -2.2 * self.parking[int(side > 0)]  # riders pass the parked cars
                offset = lane_edge - rng.uniform(0.2, 0.9) if ridden else rng.uniform(0.5, 1.5)
                heading = rng.uniform(-1.1, 1.1) + np.pi * self.chance(0.5)
                x = self.edge(side) + side * offset
                self.put(z, maker(ridden).placed(x, z, heading, rng.uniform(1.0, 1.1), self.variant()))

    def add_people(self) -> None:
        """People on the pavements, a few together, and some on the crossing."""
        rng = self.rng
        for _ in range(rng.poisson(self.layout.persons / 1.6)):
            side, z = rng.choice((-1.0, 1.0)), rng.uniform(5.0, 40.0)
            x = rng.uniform(*sorted((self.edge(side) + side * 0.6, self.front(side) - side * 0.5)))
            for _ in range(int(rng.integers(1, 3))):
                self.walker(x + rng.normal(0.0, 0.5), z + rng.normal(0.0, 0.4))
        if self.junction is not None:
            for x in rng.uniform(self.kerb[0], self.kerb[1], rng.poisson(1.0)):
                self.walker(x, self.junction - 2.6)

    def walker(self, x: float, z: float) -> None:
        rng = self.rng
        heading = rng.uniform(-0.9, 0.9) + np.pi * self.chance(0.5)
        person = figures.person(int(rng.integers(3)))
        self.put(z, person.placed(x, z, heading, rng.uniform(0.9, 1.08), self.variant()))

    def bonnet(self) -> list[Shape]:
        """The bonnet of the recording car, at the lower border of the image."""
        if not self.chance(self.layout.bonnet):
            return []
        camera, rise = self.camera, self.rng.uniform(0.03, 0.06)
        across = np.array([-1.4, -0.9, -0.4, 0.4, 0.9, 1.4])
        down = 1.0 - rise * np.array([-0.5, 0.55, 1.0, 1.0, 0.55, -0.5])
        rim = np.stack([across - camera.shift, camera.horizon - down], axis=1) / camera.focal  # at a depth of 1 m
        outline = np.concatenate([rim, rim[[-1, 0]] - (0.0, 2.0)]) + np.array([0.0, camera.height])
        return [scenery.upright(outline, 0.0, 1.0, "unlabelled", Material.BONNET)]
