"""Where HRDA looks in detail: boxes on a grid, cut out of images and put back together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class DetailBox(NamedTuple):
    """A window of an image in pixels of the full input; bottom and right are exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    def inner(self, cell: int) -> DetailBox:
        """Return the box in cells of so many pixels, cut down to whole numbers as the references do."""
        return DetailBox(*(coordinate // cell for coordinate in self))

    def outer(self, cell: int) -> DetailBox:
        """Return the cells of so many pixels that the box touches."""
        return DetailBox(self.top // cell, -(-self.bottom // cell), self.left // cell, -(-self.right // cell))

    def cut(self, maps: Tensor) -> Tensor:
        """Return the part of maps (..., height, width) that lies in the box, as a view."""
        return maps[..., self.top : self.bottom, self.left : self.right]


def draw_detail_box(
    height: int, width: int, crop_size: Sequence[int], divisor: int, generator: torch.Generator
) -> DetailBox:
    """Draw a box whose sides are multiples of `divisor`, uniformly over the grid.

    As in the references, a margin of 512 gives the offsets 0, 8, ..., 504: the last 8 pixels are never in a box
    (`get_crop_bbox` in lhoyer/HRDA).

    Args:
        height: Rows of the image.
        width: Columns of the image.
        crop_size: Rows and columns of the box. A larger box shrinks to the image.
        divisor: Spacing of the grid in pixels.
        generator: Source of randomness.

    Raises:
        ValueError: The image is smaller than one cell of the grid.
    """
    if min(height, width) < divisor:
        raise ValueError(
            f"a detail box needs an image of at least {divisor} x {divisor} pixels, not {height} x {width}"
        )
    top, bottom = _draw_interval(height, crop_size[0], divisor, generator)
    left, right = _draw_interval(width, crop_size[1], divisor, generator)
    return DetailBox(top, bottom, left, right)


def _draw_interval(length: int, crop: int, divisor: int, generator: torch.Generator) -> tuple[int, int]:
    crop = min(crop, length // divisor * divisor)
    num_starts = max((length - crop + 1) // divisor, 1)
    start = int(torch.randint(num_starts, (), generator=generator)) * divisor
    return start, start + crop


def sliding_boxes(size: Sequence[int], crop_size: Sequence[int], stride: Sequence[int]) -> tuple[DetailBox, ...]:
    """Cover an image with windows, row by row; the last of a row or column ends at the image's edge.

    Args:
        size: Rows and columns of the image.
        crop_size: Rows and columns of a window. A larger window shrinks to the image.
        stride: Rows and columns between the starts of two windows.
    """
    rows, columns = (_intervals(*axis) for axis in zip(size, crop_size, stride, strict=True))
    return tuple(DetailBox(*row, *column) for row in rows for column in columns)


def _intervals(length: int, crop: int, stride: int) -> list[tuple[int, int]]:
    crop = min(crop, length)
    starts = [*range(0, length - crop, stride), length - crop]
    return [(start, start + crop) for start in starts]


def cut_windows(images: Tensor, boxes: Sequence[DetailBox]) -> Tensor:
    """Cut the boxes, all of one size, out of every image.

    Args:
        images: (batch, channels, height, width).
        boxes: In pixels of the images.

    Returns:
        (boxes * batch, channels, rows, columns), all images of the first box first.
    """
    return torch.cat([box.cut(images) for box in boxes])


def merge_windows(windows: Tensor, boxes: Sequence[DetailBox], size: Sequence[int]) -> Tensor:
    """Put windows back into one map: their mean where they overlap, 0 where there is none.

    Args:
        windows: (boxes * batch, channels, rows, columns), in the order of `cut_windows`.
        boxes: In cells of the map.
        size: Height and width of the map.

    Returns:
        (batch, channels, height, width).
    """
    by_box = windows.unflatten(0, (len(boxes), -1))
    merged = windows.new_zeros(*by_box.shape[1:3], *size)
    count = windows.new_zeros(*size)
    for box, window in zip(boxes, by_box, strict=True):
        box.cut(merged).add_(window)
        box.cut(count).add_(1)
    return merged / count.clamp(min=1)


def cover(boxes: Sequence[DetailBox], like: Tensor) -> Tensor:
    """Return a map (height, width): 1 inside the boxes, 0 elsewhere.

    Args:
        boxes: In cells of the map.
        like: Maps (..., height, width) that give the size, the type and the device.
    """
    covered = like.new_zeros(like.shape[-2:])
    for box in boxes:
        box.cut(covered).fill_(1)
    return covered


__all__ = ["DetailBox", "cover", "cut_windows", "draw_detail_box", "merge_windows", "sliding_boxes"]
