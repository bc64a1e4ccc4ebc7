"""Image files: opened with one kind of error, upright, as RGB of 8 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from mfm_hf.data.domain import BadExampleError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

# What Pillow raises for files that are damaged in one way or another.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_RGB_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_DEEP_GREY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I"})


@contextmanager
def opened_image(source: str | Path | BinaryIO, name: str | None = None) -> Iterator[ImageFile]:
    """Open a picture; its pixels are read when they are asked for.

    Args:
        source: The file, by path or opened.
        name: What errors call it. Default: the path.

    Raises:
        BadExampleError: It cannot be opened, or what is done with it fails for a damage of the file.
    """
    try:
        with Image.open(source) as image:
            yield image
    except BadExampleError:
        raise
    except _UNREADABLE as error:
        raise BadExampleError(f"cannot read {name or source}: {error}") from error


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as RGB, a `uint8` array `(height, width, 3)`, see `rgb`.

    Raises:
        BadExampleError: It cannot be read, or has pixels of another kind.
    """
    with opened_image(path) as image:
        return rgb(upright(image), str(path))


def rgb(image: Image.Image, name: str) -> np.ndarray:
    """Return the pixels of a picture as RGB, a `uint8` array `(height, width, 3)`.

    Grey is repeated, alpha is dropped (what was painted below it shows), and of 16 bits the upper 8 are kept, as Pillow
    itself does with 16-bit RGB.

    Raises:
        BadExampleError: The pixels are of another kind: floating point numbers, or integers of more than 16 bits. The
            message calls the picture by `name`.
    """
    if image.mode in _RGB_MODES:
        return np.asarray(image.convert("RGB"))
    if image.mode in _DEEP_GREY_MODES:
        grey = np.asarray(image)
        if grey.min() >= 0 and grey.max() < 2**16:
            return np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    raise BadExampleError(
        f"the pixels of {name} are neither 8-bit nor 16-bit (mode {image.mode}): save it as greyscale, RGB or CMYK "
        "of 8 bits"
    )


def upright(image: Image.Image) -> Image.Image:
    """Turn a photograph as its EXIF tag says, like `datasets.Image`, so that it lies as its label does."""
    if image.format != "PNG":  # to look for the tag in a PNG would read all its pixels
        ImageOps.exif_transpose(image, in_place=True)
    return image


def upright_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture as `upright` turns it.

    Raises:
        BadExampleError: It cannot be opened.
    """
    with opened_image(path) as image:
        width, height = upright(image).size
    return height, width
