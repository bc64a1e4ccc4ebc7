"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file and the folders above it. A reader finds the whole file or none.

    Raises:
        ValueError: If a number is not finite, for which JSON has no word.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.tmp")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(file)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk: then they outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
