"""The manifest of a checkpoint: size and SHA-256 of each of its files. It is written last, and read first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST_FILE = "manifest.json"
_CHUNK = 1 << 20  # bytes


class DamagedCheckpointError(ValueError):
    """A checkpoint that is incomplete or not as it was written. The message names it, and what is wrong with it."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder} is damaged: {reason}; use another checkpoint")
        self.reason = reason


def write_manifest(folder: Path) -> None:
    """Write down what lies in the folder."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE
    }
    (folder / MANIFEST_FILE).write_text(json.dumps({"files": files}, indent=2) + "\n")


def check_manifest(folder: Path) -> None:
    """Read every file of a checkpoint and compare it with the manifest.

    Raises:
        DamagedCheckpointError: If a file is missing or another, or there is no manifest.
    """
    try:
        files = json.loads((folder / MANIFEST_FILE).read_text())["files"]
        entries = [(name, entry["size"], entry["sha256"]) for name, entry in files.items()]
    except FileNotFoundError:
        raise DamagedCheckpointError(folder, f"it has no {MANIFEST_FILE}, which is written last") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedCheckpointError(folder, f"{MANIFEST_FILE} cannot be read") from None
    for entry in entries:
        if fault := _fault(folder, *entry):
            raise DamagedCheckpointError(folder, fault)


def _fault(folder: Path, name: str, size: Any, sha256: Any) -> str | None:
    """Return what is wrong with a file, or None."""
    if Path(name).name != name or "\0" in name:
        return f"{MANIFEST_FILE} names a file elsewhere"
    try:
        found = (folder / name).stat().st_size
        if found != size:
            return f"{name} has {found} bytes instead of {size}"
        return None if _sha256(folder / name) == sha256 else f"{name} is not what was written (its SHA-256 differs)"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
