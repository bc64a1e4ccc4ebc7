"""Label PNGs: class ids or colours in, train ids out.

A label file holds one number per pixel (greyscale of 1 to 16 bits, or a palette, whose indices are the numbers) or one
colour per pixel. Numbers may be the train ids themselves, or the ids of an annotation, which a table maps to train
ids. What a table does not list is an error unless it says otherwise: a class that was forgotten would show late, as a
low score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL.ImageFile import ImageFile

from mfm_hf.data.classes import IGNORE_INDEX
from mfm_hf.data.domain import BadExampleError
from mfm_hf.data.image_files import opened_image

LABEL_SUFFIXES = frozenset({".png"})
MAX_ID = 65535
"""The highest id that a PNG can hold."""

Color = tuple[int, int, int]

_ID_MODES = frozenset({"1", "L", "LA", "P", "I;16", "I;16L", "I;16B", "I"})
_COLOR_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
# Pillow spreads greyscale of 2 and 4 bits over 0 to 255. By its raw mode, what it multiplied the ids with.
_SPREAD = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True)
class LabelReader:
    """Reads labels as train ids, `uint8` arrays `(height, width)`, or `int32` where `uint8` is too small.

    Attributes:
        num_classes: Number of classes. Their train ids are 0 to `num_classes` - 1.
        ignore_index: The train id of pixels without a class. As an id in a file it means itself, unless `ids` has it.
        ids: Id in the file (0 to 65535) -> train id, or None to ignore the pixel. Without this and without `colors`,
            files hold train ids.
        colors: RGB colour in the file -> train id, or None to ignore the pixel. A palette PNG is then read by the
            colours of its palette, and alpha is dropped.
        ignore_others: Whether pixels that the table does not list are ignored. By default they are an error.

    Raises:
        ValueError: There are both `ids` and `colors`, or with one of them the ignore index is also a train id.
    """

    num_classes: int
    ignore_index: int = IGNORE_INDEX
    ids: Mapping[int, int | None] | None = None
    colors: Mapping[Color, int | None] | None = None
    ignore_others: bool = False

    def __post_init__(self) -> None:
        if self.ids is not None and self.colors is not None:
            raise ValueError("labels are read by their ids or by their colours: give one table, not both")
        has_table = self.ids is not None or self.colors is not None
        if has_table and 0 <= self.ignore_index < self.num_classes:
            raise ValueError(
                f"--ignore_index {self.ignore_index} is also the number of a class, since the {self.num_classes} "
                f"classes are numbered anew: leave it at {IGNORE_INDEX}, and list what to ignore in the label map"
            )

    def read(self, path: str | Path) -> np.ndarray:
        """Read a file.

        Raises:
            BadExampleError: It cannot be read, or holds an id or a colour that is not listed.
        """
        with opened_image(path) as image:
            return self.decode(image, str(path))

    def decode(self, image: ImageFile, name: str) -> np.ndarray:
        """Do the same with an image that was opened but not loaded. Errors call it by `name`."""
        return self.from_ids(_ids(image, name), name) if self.colors is None else self._from_colors(image, name)

    def from_ids(self, ids: np.ndarray, name: str) -> np.ndarray:
        """Do the same with the ids, an array `(height, width)` of integers."""
        if ids.dtype.itemsize > 2 and not 0 <= ids.min() <= ids.max() <= MAX_ID:
            raise BadExampleError(f"{name} holds ids from {ids.min()} to {ids.max()}: use 0 to {MAX_ID}")
        if self.ids is None:
            table: dict[int, int | None] = {train_id: train_id for train_id in range(self.num_classes)}
            table[self.ignore_index] = None
            why = (
                f"but there are {self.num_classes} classes and the ignore index is {self.ignore_index}: set "
                "--ignore_index, or list the classes in classes.json"
            )
        else:
            table = {self.ignore_index: None, **self.ids}
            why = 'which the label map does not list: add it to a class or to "ignore"'
        label, unknown = self._look_up(ids, table, MAX_ID + 1)
        if unknown.size:
            value, count, _ = _most_frequent(unknown)
            raise BadExampleError(f"label value {value} in {name} (pixels: {count}), {why}")
        return label

    def _from_colors(self, image: ImageFile, name: str) -> np.ndarray:
        assert self.colors is not None
        if image.mode not in _COLOR_MODES:
            raise BadExampleError(
                f"{name} has no colours (mode {image.mode}), but the label map lists colours: list ids instead"
            )
        # With a fourth byte, a pixel is a number of 32 bits.
        pixels = np.asarray(image.convert("RGB").convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF
        label, unknown = self._look_up(pixels, {_packed(color): i for color, i in self.colors.items()}, 1 << 24)
        if unknown.size:
            value, count, num_others = _most_frequent(unknown)
            others = f"; and {num_others} more such colours" if num_others else ""
            raise BadExampleError(
                f"colour {[value & 255, value >> 8 & 255, value >> 16]} in {name} (pixels: {count}{others}), which the "
                'label map does not list: add it to a class or to "ignore"'
            )
        return label

    def _look_up(self, keys: np.ndarray, table: Mapping[int, int | None], size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the train ids, and those of the keys (0 to `size` - 1) that the table lacks."""
        unlisted = self.num_classes + (self.ignore_index == self.num_classes)  # any number that means nothing else
        dtype = np.uint8 if 0 <= self.ignore_index <= 255 and unlisted <= 255 else np.int32
        entries = tuple(
            (key, self.ignore_index if train_id is None else train_id)
            for key, train_id in table.items()
            if 0 <= key < size
        )
        label = _dense(entries, size, self.ignore_index if self.ignore_others else unlisted, np.dtype(dtype))[keys]
        return label, keys[label == unlisted]


def _ids(image: ImageFile, name: str) -> np.ndarray:
    """The ids of a picture as they were written, an array of integers `(height, width)`."""
    if image.mode not in _ID_MODES:
        raise BadExampleError(
            f"{name} is a colour picture (mode {image.mode}): a label holds one class id per pixel, as a greyscale or "
            "palette PNG, unless classes.json lists the colours of the classes"
        )
    spread = max((_SPREAD.get(str(tile[3]), 1) for tile in image.tile), default=1)  # tiles go when pixels are loaded
    ids = np.asarray(image.getchannel("L") if image.mode == "LA" else image)
    return ids.astype(np.uint8) // spread if spread > 1 or ids.dtype == bool else ids


# Not an attribute of the reader, which workers are sent: 24 bits of colour take 16 MB.
@lru_cache(maxsize=4)
def _dense(entries: tuple[tuple[int, int], ...], size: int, default: int, dtype: np.dtype) -> np.ndarray:
    """A table of key and value pairs as an array of `size` values."""
    values = np.full(size, default, dtype)
    for key, value in entries:
        values[key] = value
    return values


def _packed(color: Color) -> int:
    red, green, blue = color
    return red | green << 8 | blue << 16


def _most_frequent(values: np.ndarray) -> tuple[int, int, int]:
    """The most frequent value, how often it occurs, and how many other values there are."""
    distinct, counts = np.unique(values, return_counts=True)
    return int(distinct[counts.argmax()]), int(counts.max()), len(distinct) - 1
