from __future__ import annotations

import numpy as np
import pytest

from mfm_hf.data.classes import CITYSCAPES, ClassSet, class_set_from_names
from mfm_hf.evaluation.visualization import color_map, grid, legend, overlay

CLASSES = ClassSet(("road", "sky"), ((200, 0, 0), (0, 0, 100)))


def test_color_map_paints_classes_and_leaves_the_rest_to_the_ignore_color() -> None:
    label = np.array([[0, 1, 255], [1, 0, -1]], dtype=np.int32)
    expected = [[(200, 0, 0), (0, 0, 100), (9, 9, 9)], [(0, 0, 100), (200, 0, 0), (9, 9, 9)]]
    picture = color_map(label, CLASSES, ignore_color=(9, 9, 9))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


def test_color_map_of_more_classes_than_a_byte_counts() -> None:
    classes = class_set_from_names(str(index) for index in range(300))
    assert tuple(color_map(np.array([[299]]), classes)[0, 0]) == classes.colors[299]
    assert tuple(color_map(np.array([[255]], dtype=np.uint8), classes)[0, 0]) == classes.colors[255]


def test_overlay_mixes_colors_and_shows_the_image_where_there_is_no_class() -> None:
    image = np.full((1, 3, 3), 100, dtype=np.uint8)
    picture = overlay(image, np.array([[0, 1, 255]], dtype=np.uint8), CLASSES, opacity=0.5)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, [[(150, 50, 50), (50, 50, 100), (100, 100, 100)]])


def test_overlay_refuses_other_sizes_and_opacities() -> None:
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"\(2, 3\) .* \(3, 2\)"):
        overlay(image, np.zeros((3, 2), dtype=np.uint8), CLASSES)
    with pytest.raises(ValueError, match=r"between 0 and 1, not 1\.5"):
        overlay(image, np.zeros((2, 3), dtype=np.uint8), CLASSES, opacity=1.5)


def test_grid_holds_every_image_crisp_and_in_order() -> None:
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 200, (16, 32, 3), dtype=np.uint8) for _ in range(2)] for _ in range(3)]
    sheet = np.asarray(grid(rows, ["image", "truth"], row_titles=["a", "b", "c"], scale=3))
    found = [[_find(sheet, np.repeat(np.repeat(cell, 3, axis=0), 3, axis=1)) for cell in row] for row in rows]
    tops, lefts = zip(*[[found[row][0][0], found[row][0][1]] for row in range(3)], strict=True)
    assert list(tops) == sorted(set(tops))
    assert len(set(lefts)) == 1
    assert all(right[0] == left[0] and right[1] >= left[1] + 96 for left, right in found)
    assert (sheet[0] == 255).all()
    assert (sheet[-1] == 255).all()
    assert (sheet[: tops[0], lefts[0] :] < 255).any()  # column titles
    assert (sheet[tops[0] :, : lefts[0]] < 255).any()  # row titles


def _find(sheet: np.ndarray, cell: np.ndarray) -> tuple[int, int]:
    """Where the cell lies in the sheet; fails unless it is there exactly once."""
    height, width = cell.shape[:2]
    corners = np.argwhere((sheet == cell[0, 0]).all(axis=-1))
    places = [(y, x) for y, x in corners if np.array_equal(sheet[y : y + height, x : x + width], cell)]
    assert len(places) == 1
    return int(places[0][0]), int(places[0][1])


def test_grid_of_several_sizes_cuts_nothing_off() -> None:
    rows = [[np.full((8, 40, 3), 1, np.uint8)], [np.full((30, 10, 3), 2, np.uint8)]]
    sheet = np.asarray(grid(rows, ["a title that is wider than the images"]))
    assert (sheet == 1).all(axis=-1).sum() == 8 * 40
    assert (sheet == 2).all(axis=-1).sum() == 30 * 10


def test_grid_refuses_what_does_not_fit() -> None:
    cell = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="2 titles needs rows of 2 images"):
        grid([[cell, cell], [cell]], ["a", "b"])
    with pytest.raises(ValueError, match="needs rows"):
        grid([], [])
    with pytest.raises(ValueError, match="1 row titles for 2 rows"):
        grid([[cell], [cell]], ["a"], row_titles=["x"])


@pytest.mark.parametrize("width", [10, 640])
def test_legend_shows_every_color(width: int) -> None:
    picture = legend(CITYSCAPES, width)
    shown = {color for _, color in picture.getcolors(picture.width * picture.height)}
    assert set(CITYSCAPES.colors) <= shown
    assert picture.width >= width
