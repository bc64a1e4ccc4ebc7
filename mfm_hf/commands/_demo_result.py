"""What the page of the demo application shows of one image: two pictures, a caption and a legend."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from mfm_hf.commands._segmenter import Segmenter, read_image
from mfm_hf.data.classes import ClassSet
from mfm_hf.evaluation.visualization import overlay

logger = logging.getLogger(__name__)

# Above this, even the decoded pixels of one image are a burden: 64 million of them take 200 MB.
MAX_FILE_PIXELS = 64_000_000
# Below this, the coarsest features of the encoders are less than a pixel.
MIN_SIDE = 32


@dataclass(frozen=True)
class Result:
    """An image and what each checkpoint makes of it.

    Attributes:
        name: What the image is called.
        image: `uint8` (height, width, 3), RGB.
        labels: Class ids (height, width), one array for each checkpoint.
        classes: The classes of all the checkpoints.
        file_size: Width and height of the file, upright; the image is smaller where it had to be shrunk.
    """

    name: str
    image: np.ndarray
    labels: tuple[np.ndarray, ...]
    classes: ClassSet
    file_size: tuple[int, int]


def segment_file(path: Path, segmenters: Sequence[Segmenter], max_pixels: int) -> Result:
    """Segment an image file with every checkpoint.

    Args:
        path: The file.
        segmenters: Checkpoints of the same classes.
        max_pixels: Larger images are shrunk to this many pixels at most.

    Raises:
        ValueError: If it is no image, too small or far too large, or a network fails on it; one line for the page.
    """
    try:
        image = read_image(path, MAX_FILE_PIXELS)
    except ValueError as error:
        reason = "it is no image" if "cannot identify image file" in str(error) else str(error)
        raise ValueError(f"{path.name} cannot be read: {reason}") from error
    file_size = image.size
    if min(file_size) < MIN_SIDE:
        pixels = f"{image.width} x {image.height} pixels"
        raise ValueError(f"{path.name} is too small: it has {pixels}, {MIN_SIDE} x {MIN_SIDE} is the least")
    excess = image.width * image.height / max_pixels
    if excess > 1:
        size = [max(1, int(side / excess**0.5)) for side in file_size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    try:
        labels = tuple(segmenter.segment([image])[0] for segmenter in segmenters)
    except RuntimeError as error:  # of PyTorch: out of memory above all
        logger.exception("segmenting %s", path.name)
        raise ValueError(f"{path.name} cannot be segmented: {str(error).strip().splitlines()[0]}") from error
    return Result(path.name, np.asarray(image), labels, segmenters[0].classes, file_size)


def pictures(result: Result, opacity: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the left and the right picture, `uint8` (height, width, 3).

    Of two checkpoints, the colours that each finds over the image; of one, the image beside the colours over it.
    """
    overlays = [overlay(result.image, label, result.classes, opacity) for label in result.labels]
    left, right = overlays if len(overlays) == 2 else (result.image, *overlays)
    return left, right


def caption(result: Result) -> str:
    """Return the line below the pictures, as HTML: the name and size of the image, and how far two networks agree."""
    height, width = result.image.shape[:2]
    parts = [f"<b>{escape(result.name)}</b>", f"{width} × {height} pixels"]
    if (width, height) != result.file_size:
        parts[-1] += f", shrunk from {result.file_size[0]} × {result.file_size[1]}, which is too large for this page"
    if len(result.labels) == 2:
        agreement = float((result.labels[0] == result.labels[1]).mean())
        parts.append(f"the two agree on {100 * agreement:.0f} % of the pixels")
    return f'<p class="caption">{" · ".join(parts)}</p>'


def legend(result: Result) -> str:
    """Return the classes that occur as an HTML list, the most frequent first, each with its share of the pixels."""
    counts = np.stack([np.bincount(label.ravel(), minlength=len(result.classes)) for label in result.labels])
    shares = counts / result.labels[0].size
    order = np.argsort(-shares.mean(axis=0), kind="stable")
    items = [_legend_item(result.classes, index, shares[:, index]) for index in order if counts[:, index].any()]
    return f'<ul class="legend" aria-label="Classes and their shares of the pixels">{"".join(items)}</ul>'


def _legend_item(classes: ClassSet, index: int, shares: np.ndarray) -> str:
    red, green, blue = classes.colors[index]
    numbers = "".join(f'<span class="share">{escape(_percent(share))}</span>' for share in shares)
    bars = "".join(f'<span class="bar"><span style="width:{100 * share:.2f}%"></span></span>' for share in shares)
    return (
        f'<li><span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
        f'<span class="class">{escape(classes.names[index])}</span>{numbers}<span class="bars">{bars}</span></li>'
    )


def _percent(share: float) -> str:
    """Write a share in percent, so that a class that occurs never reads as none."""
    if share == 0:
        return "–"
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
