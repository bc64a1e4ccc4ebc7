from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.domain import BadExampleError, Domain, Example, light_rows

HEIGHT, WIDTH = 12, 16


def _write_pair(root: Path, stem: str, label: np.ndarray, seed: int = 0) -> None:
    """An image of noise and its label below `images/` and `labels/`."""
    image = np.random.default_rng(seed).integers(0, 256, (*label.shape, 3), dtype=np.uint8)
    for kind, pixels in (("images", image), ("labels", label)):
        path = root / kind / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def write_pair():
    """The function that writes an image and its label into a folder."""
    return _write_pair


@pytest.fixture
def folder(tmp_path):
    """Six labelled images of 12 x 16 pixels with the classes of Cityscapes."""
    rng = np.random.default_rng(0)
    for index in range(6):
        _write_pair(tmp_path / "set", f"town/{index:02d}", rng.integers(0, 19, (HEIGHT, WIDTH), dtype=np.uint8), index)
    return tmp_path / "set"


class NumberDecoder:
    """Noise from the seed i is example i; those in `bad` cannot be read."""

    def __init__(self, bad=()):
        self.bad = bad

    def __call__(self, row):
        number = row["number"]
        if number in self.bad:
            raise BadExampleError(f"number {number} is bad")
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        return Example(str(number), image, rng.integers(0, 19, (HEIGHT, WIDTH), dtype=np.uint8))

    def check(self, row):
        self(row)


@pytest.fixture
def number_domain():
    """A function that makes a domain of `count` examples, some of them bad."""

    def make(count=10, bad=()):
        decoder = NumberDecoder(bad)
        rows = [{"number": number} for number in range(count)]
        return Domain(
            "numbers", "train", CITYSCAPES, 255, True, light_rows(rows), count, decoder, decoder.check, rows.__getitem__
        )

    return make
