"""Resizing as the reference implementations do it, which is OpenCV's way and not Pillow's.

The references resize with `cv2.resize`: images by INTER_LINEAR, which looks at the four pixels around a point (centres
at half pixels, no antialiasing), labels by INTER_NEAREST, which takes the pixel at floor(x * scale). Pillow's
`Image.resize` antialiases when it shrinks, which makes another image: networks that were trained on the one lose on the
other. So the images of training and evaluation both pass through here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from mfm_hf.data.domain import Domain, Example, Row


def fit_size(image_size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width of an image that is resized into a box, its aspect ratio kept.

    As mmcv's `rescale_size`: GTA's frames of 1052 x 1914 in a box of (1280, 720) become 704 x 1280.

    Args:
        image_size: Height and width of the image in pixels.
        box: The most that the longer and the shorter side may be, whichever way the image lies.
    """
    factor = min(max(box) / max(image_size), min(box) / min(image_size))
    height, width = (int(side * factor + 0.5) for side in image_size)
    return max(height, 1), max(width, 1)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image bilinearly, without antialiasing.

    Equals `cv2.resize(..., INTER_LINEAR)` up to 1 grey level: both compute in fixed-point arithmetic, each in its own.

    Args:
        image: `uint8` array `(height, width, 3)`.
        size: New height and width in pixels.
    """
    if image.shape[:2] == size:
        return image
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]  # channels last, the fast layout
    resized = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=False)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map of ids `(height, width)` to another size: every pixel takes the nearest id, as OpenCV has it."""
    if label.shape == size:
        return label
    rows, columns = (nearest_indices(old, new) for old, new in zip(label.shape, size, strict=True))
    return label[rows[:, None], columns]


def nearest_indices(length: int, new_length: int) -> np.ndarray:
    """Return for each of `new_length` pixels in a row the pixel, of `length` before, that it is taken from.

    The scale is inverted twice, as OpenCV does, since the rounding of that decides at whole numbers.
    """
    scale = 1 / (new_length / length)
    return np.minimum(np.floor(np.arange(new_length) * scale).astype(np.intp), length - 1)


@dataclass(frozen=True)
class ResizingDecoder:
    """Decodes an example and resizes its image, and its label if asked to.

    Attributes:
        domain_decode: How the domain decodes.
        box: What images are fitted into, see `fit_size`.
        labels: Whether labels are resized too. Training needs that; evaluation compares at the label's own size.
    """

    domain_decode: Callable[[Row], Example]
    box: tuple[int, int]
    labels: bool

    def __call__(self, row: Row) -> Example:
        """Decode a row. Raises `BadExampleError` as the domain does."""
        example = self.domain_decode(row)
        size = fit_size(example.image.shape[:2], self.box)
        label = example.label
        if label is not None and self.labels:
            label = resize_label(label, size)
        return replace(example, image=resize_image(example.image, size), label=label)


def resized(domain: Domain, box: tuple[int, int], *, labels: bool) -> Domain:
    """Return the domain with its images fitted into a box, see `ResizingDecoder`.

    Statistics of the labels stay those of the labels' own size, as in the references, whose 3,000 pixels of a rare
    class are pixels of the native image.
    """
    return replace(domain, decode=ResizingDecoder(domain.decode, box, labels))
