"""The classes of a domain: their names, their order and the colours in which people look at them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

IGNORE_INDEX = 255
"""The label of pixels that count neither in a loss nor in a metric."""


@dataclass(frozen=True)
class ClassSet:
    """The classes of a domain, in the order of their train ids.

    Attributes:
        names: one name per class; the position is the train id.
        colors: one RGB colour (0 to 255) per class.

    Raises:
        ValueError: no class, an empty or repeated name, a colour out of range, or not as many colours as names.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("A class set needs at least one class name.")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated or "" in self.names:
            raise ValueError(f"Class names must be unique and not empty; rename {repeated or 'the empty one'}.")
        if len(self.colors) != len(self.names):
            raise ValueError(
                f"{len(self.names)} class names but {len(self.colors)} colours; give one colour per class."
            )
        for name, color in zip(self.names, self.colors, strict=True):
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise ValueError(f"The colour of '{name}' is {color}; give three values (RGB) from 0 to 255.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def id2label(self) -> dict[int, str]:
        """Train id to name, as in the config of a transformers model."""
        return dict(enumerate(self.names))

    @property
    def label2id(self) -> dict[str, int]:
        """Name to train id, as in the config of a transformers model."""
        return {name: index for index, name in enumerate(self.names)}


# The 19 evaluation classes and colours of Cityscapes (cityscapesScripts: helpers/labels.py, column trainId).
CITYSCAPES = ClassSet(
    names=(
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    ),
    colors=(
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    ),
)


def class_set_from_names(names: Iterable[str]) -> ClassSet:
    """A class set for classes that bring no colours of their own.

    Args:
        names: the class names in the order of their train ids, at most 2**24 - 1.

    Returns:
        The class set. Its colours depend on the train id alone and never repeat; black is left to ignored pixels.

    Raises:
        ValueError: as `ClassSet` does.
    """
    names = tuple(names)
    return ClassSet(names, tuple(_spread_color(index + 1) for index in range(len(names))))


def _spread_color(index: int) -> tuple[int, int, int]:
    """The colour map of Pascal VOC: three bits of `index` after three set the next lower bit of red, green and blue.

    It is a bijection between 24-bit numbers and colours, so colours never repeat, and the first ones lie far apart.
    """
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue
