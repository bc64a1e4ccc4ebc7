"""The labels of SYNTHIA: PNGs of three 16-bit channels, of which red holds the class and green the instance."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from mfm_hf.data.domain import BadExampleError
from mfm_hf.data.label_files import LabelReader


class SynthiaLabelReader(LabelReader):
    """Reads the class ids in the red channel of 16-bit RGB PNGs.

    Pillow has no picture of three 16-bit channels. It keeps the upper byte of each number, in which ids up to 22 are 0.
    PNGs store the upper byte first; told that it comes second, Pillow keeps the lower byte instead.
    """

    def decode(self, image: Image.Image, name: str) -> np.ndarray:
        """Read an opened label as `LabelReader.decode` does. Raises `BadExampleError`."""
        if not isinstance(image, PngImageFile) or [tile[3] for tile in image.tile] != ["RGB;16B"]:
            raise BadExampleError(f"{name} is no RGB PNG of 16 bits, as SYNTHIA's labels are: use its GT/LABELS")
        codec, box, offset, _ = image.tile[0]
        image.tile = [(codec, box, offset, "RGB;16L")]  # type: ignore[list-item] # before Pillow 11 plain tuples
        return self.from_ids(np.asarray(image)[..., 0], name)
