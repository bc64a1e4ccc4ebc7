"""`mfm-hf preview`: look at a domain."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mfm_hf.commands._domain import add_reading_options, open_domain
from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._files import check_can_write
from mfm_hf.commands._parser import command_parser, positive_int

if TYPE_CHECKING:
    from mfm_hf.data.classes import ClassSet
    from mfm_hf.data.domain import Domain, Example

_DESCRIPTION = """\
Draw the first images of a domain and their labels on one sheet.

example:
  {prog} --domain streets:game --output outputs/game.png
"""

_CELL_WIDTH = 512  # pixels: wider images are reduced, narrow ones enlarged up to it


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        _preview(args)
    print(f"sheet: {args.output}")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("preview", "preview_domain.py", _DESCRIPTION)
    parser.add_argument(
        "--domain", required=True, help="streets:game, streets:real, or a folder with images/ and labels/; see README"
    )
    add_reading_options(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.png", help="the picture to write")
    parser.add_argument("--rows", type=positive_int, default=4, metavar="N", help="rows of the sheet")
    parser.add_argument("--columns", type=positive_int, default=2, metavar="N", help="images per row")
    parser.add_argument(
        "--role",
        choices=("source", "target", "eval"),
        default="source",
        help="how the domain would be used: source and eval show labels, target does not; eval shows validation images",
    )
    return parser.parse_args(argv)


def _preview(args: argparse.Namespace) -> None:
    if args.output.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{args.output} is not the name of a picture: give one that ends in .png")
    check_can_write(args.output)
    picture = _sheet(open_domain(args, args.role), args.rows, args.columns)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    picture.save(args.output)


def _sheet(domain: Domain, rows: int, columns: int) -> Image.Image:
    """Return `rows` x `columns` examples, each as image and overlay, above a legend of the classes."""
    from mfm_hf.evaluation.visualization import grid, legend

    cells = [_cells(domain.decode(row), domain.classes) for row in islice(domain.rows, rows * columns)]
    columns = min(columns, len(cells))
    cells += [[np.full_like(cell, 255) for cell in cells[0]]] * (-len(cells) % columns)
    lines = [[cell for example in cells[i : i + columns] for cell in example] for i in range(0, len(cells), columns)]
    sheet = grid(lines, ["image", "label"][: len(cells[0])] * columns)
    return _stack(sheet, legend(domain.classes, sheet.width)) if domain.labelled else sheet


def _cells(example: Example, classes: ClassSet) -> list[np.ndarray]:
    """Return the pictures of an example, about `_CELL_WIDTH` pixels wide."""
    from mfm_hf.evaluation.visualization import overlay

    height, width = example.image.shape[:2]
    if width > _CELL_WIDTH:
        size = (_CELL_WIDTH, max(1, round(height * _CELL_WIDTH / width)))
    else:
        size = (width * (_CELL_WIDTH // width), height * (_CELL_WIDTH // width))
    image = _resize(example.image, size, Image.Resampling.LANCZOS if width > _CELL_WIDTH else Image.Resampling.NEAREST)
    if example.label is None:
        return [image]
    return [image, overlay(image, _resize(example.label, size, Image.Resampling.NEAREST), classes)]


def _resize(pixels: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, resample))


def _stack(upper: Image.Image, lower: Image.Image) -> Image.Image:
    picture = Image.new("RGB", (max(upper.width, lower.width), upper.height + lower.height), "white")
    picture.paste(upper, (0, 0))
    picture.paste(lower, (0, upper.height))
    return picture
