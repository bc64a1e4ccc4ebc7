"""Domains whose examples are pairs of files: an image and a label PNG."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mfm_hf.data.classes import ClassSet
from mfm_hf.data.domain import BadExampleError, Domain, Example, LabelSource, PaperSetting, Row, light_rows
from mfm_hf.data.image_files import read_image, upright_size
from mfm_hf.data.label_files import LabelReader
from mfm_hf.data.resizing import resize_label


def file_domain(
    name: str,
    split: str,
    classes: ClassSet,
    reader: LabelReader,
    images: Mapping[str, str | Path],
    labels: Mapping[str, str | Path] | None,
    folder: Path | None = None,
    paper: PaperSetting | None = None,
    fit_labels: bool = False,
) -> Domain:
    """Make a domain of files.

    Args:
        name: The string that the user gave.
        split: The split that the files are of.
        classes: The classes.
        reader: Reads the labels.
        images: Example's name -> image, in the order of the domain.
        labels: Example's name -> label, for every image. None leaves the domain without labels.
        folder: Where statistics of the labels may be kept; None keeps them in the user's cache folder.
        paper: How the papers use these images.
        fit_labels: Whether a label of another size than its image is resized to it. By default it is an error.
    """
    decoder = FilePairDecoder(reader, fit_labels)
    rows: list[Row] = [
        {"name": stem, "image": str(image), "label": None if labels is None else str(labels[stem])}
        for stem, image in images.items()
    ]
    source = None
    if labels is not None:
        source = LabelSource(decoder.read_label, partial(_fingerprint, dict(labels), reader), folder)
    return Domain(
        name=name,
        split=split,
        classes=classes,
        ignore_index=reader.ignore_index,
        labelled=labels is not None,
        rows=light_rows(rows),
        num_rows=len(rows),
        decode=decoder,
        check_row=decoder.check,
        row_at=rows.__getitem__,
        label_source=source,
        paper=paper,
    )


@dataclass(frozen=True)
class FilePairDecoder:
    """Reads the files of a row `{"name": name, "image": path, "label": path or None}`. Raises `BadExampleError`."""

    reader: LabelReader
    fit_labels: bool = False

    def __call__(self, row: Row) -> Example:
        """Read both."""
        image = read_image(row["image"])
        label = None if row["label"] is None else self._label(row, image.shape[:2])
        return Example(row["name"], image, label)

    def check(self, row: Row) -> None:
        """Read the label, if any, but only the size of the image."""
        if row["label"] is not None:
            self.read_label(row)
        else:
            upright_size(row["image"])

    def read_label(self, row: Row) -> np.ndarray:
        """Read the label and check it against the size of its image."""
        return self._label(row, upright_size(row["image"]))

    def _label(self, row: Row, size: tuple[int, ...]) -> np.ndarray:
        label = self.reader.read(row["label"])
        if self.fit_labels:
            label = resize_label(label, (size[0], size[1]))
        if label.shape != size:
            (height, width), (image_height, image_width) = label.shape, size
            raise BadExampleError(
                f"{row['label']} is {height}x{width}, but its image {row['image']} is {image_height}x{image_width}: "
                "they must have one size"
            )
        return label


def _fingerprint(labels: Mapping[str, str | Path], reader: LabelReader) -> str:
    """The way of reading, and the labels by name, size and time of change. Not by place: folders may be moved."""
    digest = hashlib.sha256(f"{reader}\n".encode())
    for stem, path in labels.items():
        status = os.stat(path)
        digest.update(f"{stem}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
