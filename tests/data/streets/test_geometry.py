from __future__ import annotations

import numpy as np
import pytest

from mfm_hf.data.streets.geometry import LABELS, SUPERSAMPLING, Camera, Material, Shape, look_at, subpixels
from mfm_hf.data.streets.scenery import across, along, ground
from mfm_hf.data.streets.vehicles import bus, car, tram, truck, van

CAMERA = Camera(focal=1.0, height=1.5, horizon=0.5, shift=0.0)
HEIGHT, WIDTH = 40, 80


def seen(*shapes: Shape):
    return look_at(shapes, CAMERA, HEIGHT, WIDTH)


def test_a_point_is_projected_through_the_pinhole():
    """Two metres to the right, ten ahead, half a metre below the eye: 0.2 and 0.05 image heights from the centre."""
    np.testing.assert_allclose(CAMERA.project(np.array([[2.0, 1.0, 10.0]])), [[0.2, 0.55]])


def test_the_ground_is_seen_at_the_depth_where_the_rays_meet_it():
    surfaces = seen(ground((-500.0, 500.0), (0.0, 900.0), "road", Material.ASPHALT))
    row = 30  # its centre lies 10.5 rows of 40 below the horizon
    np.testing.assert_allclose(surfaces.depth[row], 1.5 * 40 / 10.5, rtol=1e-5)
    np.testing.assert_allclose(surfaces.y[row], 0.0, atol=1e-5)
    assert (surfaces.ids[:19] == 0).all()


def test_walls_are_seen_where_they_stand():
    surfaces = seen(across((-50.0, 50.0), 8.0, (-20.0, 20.0), "wall", Material.WALL))
    np.testing.assert_allclose(surfaces.depth, 8.0, rtol=1e-5)
    surfaces = seen(along(3.0, (1.0, 300.0), (-20.0, 20.0), "wall", Material.WALL))
    hit = surfaces.ids == 1
    assert hit[:, 60].all()
    assert not hit[:, :40].any()
    np.testing.assert_allclose(surfaces.x[hit], 3.0, rtol=1e-4)


def test_later_shapes_hide_earlier_ones_and_normals_face_the_camera():
    far = across((-50.0, 50.0), 20.0, (-50.0, 50.0), "building", Material.FACADE)
    near = across((-1.0, 1.0), 5.0, (0.5, 2.5), "car", Material.PAINT)
    surfaces = seen(far, near)
    assert surfaces.ids[20, 40] == 2
    assert surfaces.ids[2, 2] == 1
    np.testing.assert_allclose(surfaces.normals[1:], [[0, 0, -1], [0, 0, -1]], atol=1e-6)


def test_a_thing_thinner_than_a_pixel_stays_whole():
    thread = across((0.1, 0.101), 5.0, (-9.0, 9.0), "pole", Material.STEEL)
    assert (seen(thread).ids == 1).any(axis=1).all()


def test_subpixels_take_the_fine_map_apart():
    fine = np.arange(4 * 6).reshape(4, 6)
    views = subpixels(fine)
    assert len(views) == SUPERSAMPLING**2
    np.testing.assert_array_equal(np.sort(np.stack(views)[:, 0, 0]), [0, 1, 6, 7])


@pytest.mark.parametrize("vehicle", [car(), van(), bus(), truck(), tram()])
@pytest.mark.parametrize("heading", [0.0, np.pi / 2, np.pi])
def test_a_vehicle_stands_on_the_road_and_shows_one_class(vehicle, heading):
    shapes = vehicle.placed(0.0, 30.0, heading, 0, CAMERA.height)
    body = [shape for shape in shapes if shape.material != Material.SHADOW]
    assert {shape.label for shape in body} < set(LABELS.values())
    assert len({shape.label for shape in body}) == 1
    points = np.concatenate([shape.points for shape in body])
    assert -1e-9 <= points[:, 1].min() <= (0.3 if vehicle is tram() else 0.03)
    span = np.ptp(points[:, 0 if heading == np.pi / 2 else 2])
    assert span <= vehicle.length * 1.05


def test_a_car_shows_its_tail_lamps_from_behind_and_its_head_lamps_from_the_front():
    def materials(heading: float) -> set[Material]:
        return {shape.material for shape in car().placed(0.0, 10.0, heading, 0, CAMERA.height)}

    assert Material.TAIL_LIGHT in materials(0.0)
    assert Material.HEAD_LIGHT not in materials(0.0)
    assert Material.HEAD_LIGHT in materials(np.pi)
    assert Material.TAIL_LIGHT not in materials(np.pi)
