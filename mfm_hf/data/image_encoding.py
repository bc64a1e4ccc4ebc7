"""How the images of a prepared dataset are encoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

EncodingName = Literal["png", "webp-lossless", "jpeg", "webp"]

# Pillow's format and its options. JPEG with colours at half the resolution, as usual: decoding is half as fast without.
_FORMATS: dict[EncodingName, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp-lossless": ("WEBP", {"lossless": True}),
    "jpeg": ("JPEG", {"subsampling": "4:2:0"}),
    "webp": ("WEBP", {}),
}
LOSSLESS: frozenset[EncodingName] = frozenset({"png", "webp-lossless"})


@dataclass(frozen=True)
class ImageEncoding:
    """An encoding of images.

    Attributes:
        name: `png` and `webp-lossless` keep every pixel; `jpeg` and `webp` are smaller and change pixels a little.
        quality: Of `jpeg` and `webp`, 1 to 100; None where nothing is lost.

    Raises:
        ValueError: The quality is out of its range.
    """

    name: EncodingName
    quality: int | None = None

    def __post_init__(self) -> None:
        if (self.quality is None) != (self.name in LOSSLESS):
            raise ValueError(f"{self.name} {'has no quality' if self.name in LOSSLESS else 'needs a quality'}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"--quality is {self.quality}: give 1 to 100")

    @property
    def suffix(self) -> str:
        """The end of a file's name, without the dot."""
        return {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[_FORMATS[self.name][0]]

    def encode(self, image: np.ndarray) -> bytes:
        """Encode a `uint8` array `(height, width, 3)`. The same pixels give the same bytes."""
        image_format, options = _FORMATS[self.name]
        if self.quality is not None:
            options = options | {"quality": self.quality}
        return _saved(image, image_format, options)


def encode_label(label: np.ndarray) -> bytes:
    """Encode a label `(height, width)` as a greyscale PNG of 8 bits or, where ids need them, 16."""
    return _saved(label.astype(np.uint8 if label.max() <= 255 else np.uint16), "PNG", {})


def _saved(pixels: np.ndarray, image_format: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
