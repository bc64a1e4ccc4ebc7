"""Pictures of label maps: colours, overlays, contact sheets, legends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mfm_hf.data.classes import ClassSet

Color = tuple[int, int, int]

_WHITE: Color = (255, 255, 255)
_INK: Color = (34, 34, 34)
_OUTLINE: Color = (200, 200, 200)


def color_map(label: np.ndarray, classes: ClassSet, ignore_color: Color = (0, 0, 0)) -> np.ndarray:
    """Paint every pixel in the colour of its class.

    Args:
        label: Class ids, integers (height, width).
        classes: The classes with their colours.
        ignore_color: Colour of every value that is not a class.

    Returns:
        `uint8` (height, width, 3), RGB.
    """
    palette = np.array([*classes.colors, ignore_color], dtype=np.uint8)
    return palette[np.where(_is_class(label, classes), label, len(classes))]


def overlay(image: np.ndarray, label: np.ndarray, classes: ClassSet, opacity: float = 0.55) -> np.ndarray:
    """Lay the colours of the classes over an image. Pixels without a class show the image alone.

    Args:
        image: `uint8` (height, width, 3), RGB.
        label: Class ids, integers (height, width).
        classes: The classes with their colours.
        opacity: 0 (the image) .. 1 (the colours).

    Returns:
        `uint8` (height, width, 3), RGB.

    Raises:
        ValueError: If the sizes differ or the opacity is out of range.
    """
    if image.shape[:2] != label.shape:
        raise ValueError(f"an image of {image.shape[:2]} pixels cannot carry a label of {label.shape} pixels")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, not {opacity}")
    weight = np.where(_is_class(label, classes), np.float32(opacity), np.float32(0))[..., None]
    mixed = image * (1 - weight) + color_map(label, classes) * weight
    return np.rint(mixed).astype(np.uint8)


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    scale: int = 1,
) -> Image.Image:
    """Arrange images as a contact sheet on white, with a title over every column.

    Args:
        rows: Rows of images, `uint8` (height, width, 3). Their sizes may differ; a cell centres its image.
        titles: One title per column.
        row_titles: One title per row, at its left. Default: none.
        scale: Factor by which images are enlarged, every pixel a crisp square.

    Raises:
        ValueError: If there is no row, or a row or `row_titles` has another length than the sheet needs.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(f"a sheet with {len(titles)} titles needs rows of {len(titles)} images")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"{len(row_titles)} row titles for {len(rows)} rows")
    cells = [[_enlarge(image, scale) for image in row] for row in rows]
    widths = [max(row[column].width for row in cells) for column in range(len(titles))]
    heights = [max(cell.height for cell in row) for row in cells]
    font_size = min(max(min(widths) // 16, 13), 32)  # legible beside small and large images alike
    font = ImageFont.load_default(size=font_size)
    gap = max(6, font_size // 2)

    # A title may be wider than the images below it.
    widths = [max(width, round(font.getlength(title))) for width, title in zip(widths, titles, strict=True)]
    margin = max((round(font.getlength(title)) + gap for title in row_titles or []), default=0)
    lefts, right = _lay_out(widths, start=gap + margin, gap=gap)
    tops, bottom = _lay_out(heights, start=2 * gap + font_size, gap=gap)

    sheet = Image.new("RGB", (right, bottom), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for title, left, width in zip(titles, lefts, widths, strict=True):
        draw.text((left + width / 2, tops[0] - gap), title, fill=_INK, font=font, anchor="ms")
    for title, top, height in zip(row_titles or [], tops, heights, strict=False):
        draw.text((lefts[0] - gap, top + height / 2), title, fill=_INK, font=font, anchor="rm")
    for row, top, height in zip(cells, tops, heights, strict=True):
        for cell, left, width in zip(row, lefts, widths, strict=True):
            sheet.paste(cell, (left + (width - cell.width) // 2, top + (height - cell.height) // 2))
    return sheet


def legend(classes: ClassSet, width: int = 640) -> Image.Image:
    """Draw the names of the classes beside their colours, in as many columns as fit into `width` pixels."""
    font = ImageFont.load_default(size=16)
    swatch, gap, line = 18, 12, 28
    cell = max(round(font.getlength(name)) for name in classes.names) + swatch + 8 + 2 * gap
    columns = max(1, min((width - gap) // cell, len(classes)))
    lines = -(-len(classes) // columns)
    picture = Image.new("RGB", (max(width, cell + gap), lines * line + 2 * gap), _WHITE)
    draw = ImageDraw.Draw(picture)
    for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)):
        left, top = gap + index // lines * cell, gap + index % lines * line
        middle = top + line // 2
        box = (left, middle - swatch // 2, left + swatch, middle + swatch // 2)
        draw.rectangle(box, fill=color, outline=_OUTLINE)
        draw.text((left + swatch + 8, middle), name, fill=_INK, font=font, anchor="lm")
    return picture


def _lay_out(lengths: Sequence[int], start: int, gap: int) -> tuple[list[int], int]:
    """Return where each of the lengths begins, with gaps between them, and where the sheet ends."""
    ends = list(accumulate((length + gap for length in lengths), initial=start))
    return ends[:-1], ends[-1]


def _is_class(label: np.ndarray, classes: ClassSet) -> np.ndarray:
    return (label >= 0) & (label < len(classes))


def _enlarge(image: np.ndarray, scale: int) -> Image.Image:
    picture = Image.fromarray(image)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
