"""The folder of the best network of a run, and how it survives that the run is interrupted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mfm_hf.files import sync
from mfm_hf.uda.run.model_selection import checked_note
from mfm_hf.uda.run.run_folder import RESULTS_FILE

BEST_FOLDER = "best"


def write_best(output_dir: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder, then put it in the place of the best network so far, which stays whole until then."""
    folder, unfinished = output_dir / BEST_FOLDER, output_dir / f".export-{BEST_FOLDER}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        write(unfinished)
        for path in unfinished.iterdir():
            sync(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # makes room, where the disk is full
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def recover_best(output_dir: Path, checkpoint: Path, step: int) -> dict[str, Any] | None:
    """Return the note (see `ModelSelection.best`) of the best network that lies in the output folder.

    It may be of a later step than the checkpoint: what was found before an interruption is not lost by it. If there
    is none, that of the run which the checkpoint is from is copied, unless it was found later than the checkpoint.

    Args:
        output_dir: The folder of the run that goes on.
        checkpoint: The checkpoint from which it goes on, which may be another run's.
        step: Of the checkpoint.
    """
    own = _read_note(output_dir / BEST_FOLDER)
    if own is not None:
        return own
    other = checkpoint.parent / BEST_FOLDER
    note = _read_note(other)
    if note is None or note["step"] > step:
        return None
    write_best(output_dir, partial(shutil.copytree, other, dirs_exist_ok=True))
    return note


def _read_note(folder: Path) -> dict[str, Any] | None:
    """Return the note of a best network, or None where there is none."""
    try:
        return checked_note(json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))["best"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
