"""Whether results can be written, checked before the work."""

from __future__ import annotations

import os
from pathlib import Path


def check_can_write(file: Path) -> None:
    """Check that a file could be written, without creating anything.

    Raises:
        ValueError: If it is a folder, or its folder cannot be made or written to.
    """
    if file.is_dir():
        raise ValueError(f"{file} is a folder: give the name of a file, such as {file / 'results'}{file.suffix}")
    ancestor = next(parent for parent in file.absolute().parents if parent.exists())
    if not ancestor.is_dir():
        raise ValueError(f"cannot write {file}: {ancestor} is a file, not a folder")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {file}: no permission to write into {ancestor}")
