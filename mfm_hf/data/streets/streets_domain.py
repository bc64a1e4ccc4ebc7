"""The built-in domains `streets:game` and `streets:real`, drawn as they are read."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX
from mfm_hf.data.domain import Domain, Example, LabelSource, Row, light_rows
from mfm_hf.data.streets.drawing import MIN_SIZE, STREETS_SPLITS, draw_street

DEFAULT_SIZE = (128, 256)

Style = Literal["game", "real"]


def streets_domain(
    address: str, split: str, *, labelled: bool, ignore_index: int = IGNORE_INDEX, name: str | None = None
) -> Domain:
    """Open one of the procedural domains.

    Args:
        address: `streets:game` or `streets:real`, with an optional size: `streets:game:64x128` has images of
            64 rows and 128 columns. Default: 128 x 256.
        split: `train` or `validation`.
        labelled: Whether the examples carry their labels.
        ignore_index: The label of pixels without a class.
        name: The name of the domain; default: the address.

    Raises:
        ValueError: The address or the split is unknown, or the size too small.
    """
    match = re.fullmatch(r"streets:(game|real)(?::([1-9]\d*)x([1-9]\d*))?", address)
    if match is None:
        raise ValueError(f"{address}: write streets:game or streets:real, with a size as in streets:game:64x128")
    if split not in STREETS_SPLITS:
        raise ValueError(f"{address} has no split {split!r}: choose one of {', '.join(STREETS_SPLITS)}")
    height, width = DEFAULT_SIZE if match[2] is None else (int(match[2]), int(match[3]))
    if min(height, width) < MIN_SIZE:
        raise ValueError(f"{address}: a street of {height}x{width} pixels is too small, {MIN_SIZE} is the least")
    rows: list[Row] = [{"index": index} for index in range(STREETS_SPLITS[split])]
    decoder = StreetDecoder(cast(Style, match[1]), split, height, width, labelled, ignore_index)
    return Domain(
        name=name or address,
        split=split,
        classes=CITYSCAPES,
        ignore_index=ignore_index,
        labelled=labelled,
        rows=light_rows(rows),
        num_rows=len(rows),
        decode=decoder,
        row_at=rows.__getitem__,
        label_source=LabelSource(decoder.read_label, partial(_fingerprint, decoder)) if labelled else None,
    )


@dataclass(frozen=True)
class StreetDecoder:
    """Draws the street scene of a row `{"index": i}`: height x width pixels, with or without its label."""

    style: Style
    split: str
    height: int
    width: int
    labelled: bool
    ignore_index: int

    def __call__(self, row: Row) -> Example:
        """Draw one scene."""
        image, label = draw_street(self.style, self.split, row["index"], self.height, self.width)
        name = f"{self.style}_{self.split}_{row['index']:05d}"
        if not self.labelled:
            return Example(name, image, None)
        if self.ignore_index != IGNORE_INDEX:
            label = np.where(label == IGNORE_INDEX, np.int32(self.ignore_index), label)
        return Example(name, image, label)

    def read_label(self, row: Row) -> np.ndarray:
        """Draw one scene for its label."""
        return cast(np.ndarray, self(row).label)


def _fingerprint(decoder: StreetDecoder) -> str:
    """The setting and the code that draws: a change of either may change any scene."""
    digest = hashlib.sha256(repr(decoder).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
