"""The images that a command is given, and a name for what is made of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfm_hf.data.folders import IMAGE_SUFFIXES


@dataclass(frozen=True)
class InputImage:
    """An image file, and the name of its outputs: a relative path, unique among all inputs."""

    path: Path
    name: str


def find_images(paths: Sequence[Path], output: Path) -> list[InputImage]:
    """Collect images from files and, recursively, from folders.

    Args:
        paths: Files and folders. A file that is met twice is taken once.
        output: The folder for what is made of them. It is not searched where it lies below one of the folders: what an
            earlier run wrote is no input.

    Raises:
        FileNotFoundError: If a path does not exist, or there is no image at all.
        ValueError: If one of the folders is the output itself.
    """
    roots: dict[Path, Path] = {}
    for path in map(_absolute, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: give an image or a folder of images")
        if path.is_dir():
            roots.update({file: path for file in _images_below(path, _absolute(output)) if file not in roots})
        else:
            roots.setdefault(path, path.parent)
    if not roots:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise FileNotFoundError(f"no image in {', '.join(map(str, paths))}: looked for {suffixes}")
    return [InputImage(file, name) for file, name in zip(roots, _unique_names(roots), strict=True)]


def _absolute(path: Path) -> Path:
    """Return the path without `..`, but with its symbolic links: images may be linked into a folder from elsewhere."""
    return Path(os.path.abspath(path))


def _images_below(folder: Path, output: Path) -> list[Path]:
    if folder == output:
        raise ValueError(f"{folder} is input and output: choose another output, such as {folder / 'predictions'}")
    images = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if output.is_relative_to(folder):
        images = [file for file in images if not file.is_relative_to(output)]
    return images


def _unique_names(roots: dict[Path, Path]) -> list[str]:
    """Name files as shortly as keeps them apart.

    First choice: relative to the path that the user gave; then to the folder that all share; at last with the suffix.
    """
    shared = Path(os.path.commonpath([file.parent for file in roots]))
    short = [file.relative_to(root).with_suffix("") for file, root in roots.items()]
    longer = [file.relative_to(shared).with_suffix("") for file in roots]
    longest = [file.relative_to(shared) for file in roots]
    names = next(names for names in (short, longer, longest) if len(set(names)) == len(names))
    return [name.as_posix() for name in names]
