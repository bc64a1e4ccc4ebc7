"""Domains of a user's own files, in two folders: `images/` and `labels/`.

    DIR/images/**/NAME.png     png, jpg, jpeg, webp, bmp, tif or tiff
    DIR/labels/**/NAME.png     one class id or colour per pixel; a target domain may do without
    DIR/classes.json           what these mean (see `mfm_hf.data.label_map`); without it, the 19 classes of Cityscapes

An image and its label have the same path below `images/` and `labels/`, up to the suffix. A folder of several splits
holds `train/images`, `train/labels`, `validation/images` (or `val/images`) and so on; one without them serves every
split.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX
from mfm_hf.data.domain import Domain
from mfm_hf.data.file_domain import file_domain
from mfm_hf.data.image_files import IMAGE_SUFFIXES
from mfm_hf.data.label_files import LABEL_SUFFIXES
from mfm_hf.data.label_map import LabelMap, read_label_map, write_label_map

_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val")}


def folder_domain(
    directory: Path,
    split: str,
    *,
    labelled: bool,
    ignore_index: int = IGNORE_INDEX,
    name: str | None = None,
    label_map: Path | None = None,
) -> Domain:
    """Open a folder of images and labels (see the module's description) as a domain.

    Args:
        directory: The folder.
        split: `train`, `validation`, or the name of another split's sub-folder.
        labelled: Whether labels are needed; if not, they are not read even where they exist.
        ignore_index: The label of pixels without a class.
        name: The name of the domain; default: the path.
        label_map: The file that says what stands in the labels. Default: `classes.json` beside the images or in the
            folder.

    Raises:
        FileNotFoundError: A folder, the images, the labels or the label map are missing.
        ValueError: Images and labels do not match, or the label map is not what it should be.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a folder: give a folder that holds images/ and labels/")
    root = _split_root(directory, split)
    images = files_by_stem(root / "images", IMAGE_SUFFIXES)
    labels = _labels_of(root, images) if labelled else None
    beside = (root / "classes.json", directory / "classes.json")
    file = label_map or next(filter(Path.exists, beside), None)
    meaning = LabelMap(CITYSCAPES) if file is None else read_label_map(file)
    return file_domain(
        name or str(directory), split, meaning.classes, meaning.reader(ignore_index), images, labels, folder=root
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
    write_label_map(domain.classes, directory / "classes.json")
    for row in islice(domain.rows, limit):
        example = domain.decode(row)
        _write_png(example.image, directory / "images" / f"{example.name}.png")
        if example.label is not None:
            ids = example.label.astype(np.uint8 if example.label.max() <= 255 else np.uint16)
            _write_png(ids, directory / "labels" / f"{example.name}.png")


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


def files_by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
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
    labels = files_by_stem(folder, LABEL_SUFFIXES)
    without_label = sorted(set(images) - set(labels))
    without_image = sorted(set(labels) - set(images))
    if without_label or without_image:
        parts = [("without a label", without_label), ("without an image", without_image)]
        listed = "; ".join(f"{len(stems)} {what} ({first_five(stems)})" for what, stems in parts if stems)
        raise ValueError(f"images/ and labels/ of {root} do not match by name: {listed}. Give both the same names")
    return labels


def first_five(stems: list[str]) -> str:
    """The first names of a list, for an error message."""
    return ", ".join(stems[:5]) + (", ..." if len(stems) > 5 else "")


def _write_png(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
