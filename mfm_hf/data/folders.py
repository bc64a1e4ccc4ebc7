"""Domains of a user's own files, in two folders: `images/` and `labels/`.

    DIR/images/**/NAME.png     png, jpg, jpeg, webp, bmp, tif or tiff
    DIR/labels/**/NAME.png     one class id per pixel; a target domain may do without
    DIR/classes.json           {"road": 0, "sidewalk": 1, ...}; without it, the 19 classes of Cityscapes

An image and its label have the same path below `images/` and `labels/`, up to the suffix. A folder of several splits
holds `train/images`, `train/labels`, `validation/images` (or `val/images`) and so on; one without them serves every
split.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX, ClassSet, class_set_from_names
from mfm_hf.data.domain import BadExampleError, Domain, Example, LabelSource, Row, light_rows

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
LABEL_SUFFIXES = frozenset({".png"})

_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val")}
_LABEL_DTYPES = {"1": np.uint8, "L": np.uint8, "P": np.uint8, "I;16": np.int32, "I": np.int32}
# What Pillow raises for files that are damaged in one way or another.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def folder_domain(
    directory: Path, split: str, *, labelled: bool, ignore_index: int = IGNORE_INDEX, name: str | None = None
) -> Domain:
    """Open a folder of images and labels (see the module's description) as a domain.

    Args:
        directory: The folder.
        split: `train`, `validation`, or the name of another split's sub-folder.
        labelled: Whether labels are needed; if not, they are not read even where they exist.
        ignore_index: The label of pixels without a class.
        name: The name of the domain; default: the path.

    Raises:
        FileNotFoundError: A folder, the images or the labels are missing.
        ValueError: Images and labels do not match, or `classes.json` is not what it should be.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a folder: give a folder that holds images/ and labels/")
    root = _split_root(directory, split)
    images = _files_by_stem(root / "images", IMAGE_SUFFIXES)
    labels = _labels_of(root, images) if labelled else {}
    classes = _read_classes(root if (root / "classes.json").exists() else directory)
    decoder = _FolderDecoder(num_classes=len(classes), ignore_index=ignore_index)
    rows: list[Row] = [
        {"name": stem, "image": str(image), "label": str(labels[stem]) if labelled else None}
        for stem, image in images.items()
    ]
    return Domain(
        name=name or str(directory),
        split=split,
        classes=classes,
        ignore_index=ignore_index,
        labelled=labelled,
        rows=light_rows(rows),
        num_rows=len(rows),
        decode=decoder,
        check_row=decoder.check,
        row_at=rows.__getitem__,
        label_source=LabelSource(decoder.read_label, partial(_fingerprint, labels), root) if labelled else None,
    )


def write_folder(domain: Domain, directory: Path, limit: int | None = None) -> None:
    """Write the (first `limit`) examples of a domain as a folder that `folder_domain` reads back, pixel by pixel.

    Raises:
        ValueError: The directory holds something already, or the ignore index does not fit into a PNG.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory} is not empty: give a new directory")
    if domain.labelled and not 0 <= domain.ignore_index <= 65535:
        raise ValueError(f"an ignore index of {domain.ignore_index} does not fit into a PNG: give one from 0 to 65535")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "classes.json").write_text(json.dumps(domain.classes.label2id, indent=2) + "\n")
    for row in islice(domain.rows, limit):
        example = domain.decode(row)
        _write_png(example.image, directory / "images" / f"{example.name}.png")
        if example.label is not None:
            ids = example.label.astype(np.uint8 if example.label.max() <= 255 else np.uint16)
            _write_png(ids, directory / "labels" / f"{example.name}.png")


@dataclass(frozen=True)
class _FolderDecoder:
    """Reads the files of a row `{"name": stem, "image": path, "label": path or None}`."""

    num_classes: int
    ignore_index: int

    def __call__(self, row: Row) -> Example:
        with _opened(row["image"]) as file:
            image = np.asarray(_upright(file).convert("RGB"))
        if row["label"] is None:
            return Example(row["name"], image, None)
        height, width = image.shape[:2]
        return Example(row["name"], image, self._label(row, height, width))

    def check(self, row: Row) -> None:
        """Read the label, if any, but only the size of the image."""
        if row["label"] is not None:
            self.read_label(row)
        else:
            _upright_size(row["image"])

    def read_label(self, row: Row) -> np.ndarray:
        """Read the label and check it against the size of its image."""
        return self._label(row, *_upright_size(row["image"]))

    def _label(self, row: Row, height: int, width: int) -> np.ndarray:
        path = row["label"]
        with _opened(path) as file:
            mode, pixels = file.mode, np.asarray(file)
        if mode not in _LABEL_DTYPES:
            raise BadExampleError(
                f"{path} is a colour picture (mode {mode}): a label holds one class id per pixel, as a greyscale "
                "or palette PNG"
            )
        label = pixels.astype(_LABEL_DTYPES[mode])
        if label.shape != (height, width):
            raise BadExampleError(
                f"{path} is {label.shape[0]}x{label.shape[1]}, but its image {row['image']} is {height}x{width}: "
                "they must have one size"
            )
        unknown = ((label < 0) | (label >= self.num_classes)) & (label != self.ignore_index)
        if unknown.any():
            raise BadExampleError(
                f"label value {label[unknown][0]} in {path}, but there are {self.num_classes} classes and the ignore "
                f"index is {self.ignore_index}: set --ignore_index, or list the classes in classes.json"
            )
        return label


def _split_root(directory: Path, split: str) -> Path:
    """The folder that holds `images/` for a split."""
    for folder in _SPLIT_FOLDERS.get(split, (split,)):
        if (directory / folder / "images").is_dir():
            return directory / folder
    others = sorted(path.parent.name for path in directory.glob("*/images") if path.is_dir())
    if others:
        raise FileNotFoundError(
            f"{directory} has no split {split!r}, only {', '.join(others)}: add {split}/images, or name a split, as "
            f"in {directory}#{others[0]}"
        )
    if not (directory / "images").is_dir():
        raise FileNotFoundError(f"{directory} has no images/ in it: put the images into {directory / 'images'}")
    return directory


def _files_by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """The files below a folder by their relative path without suffix, sorted by it. Hidden files are left out."""
    files: dict[str, Path] = {}
    for path in folder.rglob("*"):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have one name up to the suffix: rename or remove one of them")
        files[stem] = path
    if not files:
        raise FileNotFoundError(f"{folder} holds no files of the kinds {', '.join(sorted(suffixes))}: add some")
    return dict(sorted(files.items()))


def _labels_of(root: Path, images: Iterable[str]) -> dict[str, Path]:
    folder = root / "labels"
    if not folder.is_dir():
        raise FileNotFoundError(f"{root} has images/ but no labels/: add {folder} with a PNG for every image")
    labels = _files_by_stem(folder, LABEL_SUFFIXES)
    without_label = sorted(set(images) - set(labels))
    without_image = sorted(set(labels) - set(images))
    if without_label or without_image:
        parts = [("without a label", without_label), ("without an image", without_image)]
        listed = "; ".join(f"{len(stems)} {what} ({_first_five(stems)})" for what, stems in parts if stems)
        raise ValueError(f"images/ and labels/ of {root} do not match by name: {listed}. Give both the same names")
    return labels


def _fingerprint(labels: dict[str, Path]) -> str:
    """The labels by name, size and time of change. Not by place, so that a folder may be moved."""
    digest = hashlib.sha256()
    for stem, path in labels.items():
        status = path.stat()
        digest.update(f"{stem}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _first_five(stems: list[str]) -> str:
    return ", ".join(stems[:5]) + (", ..." if len(stems) > 5 else "")


def _read_classes(folder: Path) -> ClassSet:
    path = folder / "classes.json"
    if not path.exists():
        return CITYSCAPES
    hint = 'write {"name": id, ...} with the ids 0, 1, 2, ...'
    try:
        ids = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): {hint}") from error
    # Compared as text, since JSON knows values that cannot be sorted, and 1.0 and true, which equal 1.
    if not isinstance(ids, dict) or not ids or {str(i) for i in ids.values()} != {str(i) for i in range(len(ids))}:
        raise ValueError(f"{path} does not number the classes from 0 to n - 1: {hint}")
    names = tuple(sorted(ids, key=lambda name: int(ids[name])))
    return CITYSCAPES if names == CITYSCAPES.names else class_set_from_names(names)


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except _UNREADABLE as error:
        raise BadExampleError(f"cannot read {path}: {error}") from error


def _upright_size(path: str) -> tuple[int, int]:
    """Height and width of an image as `_upright` turns it."""
    with _opened(path) as file:
        width, height = _upright(file).size
    return height, width


def _upright(image: Image.Image) -> Image.Image:
    """Turn a photograph as its EXIF tag says, like `datasets.Image`, so that it lies as its label does."""
    if image.format != "PNG":  # to look for the tag in a PNG would read all its pixels
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _write_png(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
