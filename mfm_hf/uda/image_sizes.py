"""At what size a recipe looks at its domains, and which borders of the target it does not trust."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfm_hf.data.domain import Domain, PaperSetting
from mfm_hf.data.resizing import fit_size, nearest_indices, resized
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.training_args import UdaTrainingArguments

Margins = tuple[int, int, int, int]


def image_box(domain: Domain, crop_size: tuple[int, int], asked: Sequence[int] | None) -> tuple[int, int] | None:
    """Return the `(long, short)` side that the images of a domain are fitted into; None: they keep their size.

    Args:
        domain: The domain.
        crop_size: Height and width of the training crops, by which the papers choose.
        asked: What the user asks for, if anything.
    """
    if asked is not None:
        return asked[0], asked[-1]
    return None if domain.paper is None else domain.paper.box(crop_size)


def at_training_size(domain: Domain, crop_size: tuple[int, int], asked: Sequence[int] | None) -> Domain:
    """Return the domain with its images, and their labels, at the size of `image_box`."""
    box = image_box(domain, crop_size, asked)
    return domain if box is None else resized(domain, box, labels=True)


def at_evaluation_size(domain: Domain, crop_size: tuple[int, int], asked: Sequence[int] | None) -> Domain:
    """Return the domain with its images at the size of `image_box`; labels keep theirs, as benchmarks compare."""
    box = image_box(domain, crop_size, asked)
    return domain if box is None else resized(domain, box, labels=False)


def settle_target_borders(args: UdaTrainingArguments, recipe: Recipe, target: Domain) -> None:
    """Write into the arguments which borders of the target get no weight, unless they say so themselves.

    DAFormer ignores the rows 15 from the top and 120 from the bottom of a crop of 512, which is as high as
    the image (`pseudo_weight_ignore_top` and `_bottom` of lhoyer/MIC). HRDA and MIC mask margins of the image. Where a
    crop is less high than the image, its rows lie anywhere, so the margins serve DAFormer too.
    """
    given = args.pseudo_label_ignore_rows is not None or args.pseudo_label_margins is not None
    if given or recipe.target_borders == "trust" or target.paper is None or not any(target.paper.margins):
        return
    box = image_box(target, recipe.crop_size, args.target_size)
    size = target.paper.margins_size if box is None else fit_size(target.paper.margins_size, box)
    margins = scaled_margins(target.paper, size)
    if recipe.target_borders == "ignore_rows" and recipe.crop_size[0] == size[0]:
        args.pseudo_label_ignore_rows = list(margins[:2])
    else:
        args.pseudo_label_margins = list(margins)


def scaled_margins(paper: PaperSetting, size: tuple[int, int]) -> Margins:
    """Return the margins of an image of `(height, width)` pixels, as a mask of the native ones would be resized."""
    top, bottom, left, right = paper.margins
    first_row, last_row = _scaled(top, bottom, paper.margins_size[0], size[0])
    first_column, last_column = _scaled(left, right, paper.margins_size[1], size[1])
    return first_row, last_row, first_column, last_column


def _scaled(before: int, after: int, length: int, new_length: int) -> tuple[int, int]:
    sources = nearest_indices(length, new_length)
    return int(np.count_nonzero(sources < before)), int(np.count_nonzero(sources >= length - after))
