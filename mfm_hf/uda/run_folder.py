"""The output folder of a run: whom it belongs to, and results that are never half-written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

RESULTS_FILE = "results.json"
LOG_FILE = "log.jsonl"
_OF_A_RUN = (
    RESULTS_FILE, LOG_FILE, "training_args.json", "config.json", "preprocessor_config.json",
    "*.safetensors", "*.safetensors.index.json", "pictures", "checkpoint-*", ".checkpoint-*.partial",
)  # fmt: skip


def check(output_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """See whether a run may use the folder, without changing anything in it.

    Args:
        output_dir: The folder; it is made if need be.
        resume: Whether the run goes on from a checkpoint.
        overwrite: Whether it may delete what another run left.

    Raises:
        FileExistsError: If the folder holds another run and neither is allowed.
        OSError: If it cannot be written to.
    """
    if _left(output_dir) and not resume and not overwrite:
        raise FileExistsError(
            f"{output_dir} holds another run: choose another --output_dir, go on with --resume_from_checkpoint latest, "
            "or replace it with --overwrite_output_dir"
        )
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=output_dir):  # fails now rather than after the training
        pass


def clear(output_dir: Path) -> None:
    """Delete what another run left; files that are none of a run's stay."""
    for path in _left(output_dir):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _left(output_dir: Path) -> list[Path]:
    return [path for pattern in _OF_A_RUN for path in output_dir.glob(pattern)]


def write_export(output_dir: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill an empty folder, then move its files into the output folder in place of older ones.

    A fresh folder, because saving over an older export would leave the index of its shards behind.
    """
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".export-") as folder:
        write(Path(folder))
        for pattern in ("*.safetensors", "*.safetensors.index.json"):
            for path in output_dir.glob(pattern):
                path.unlink()
        for path in Path(folder).iterdir():
            os.replace(path, output_dir / path.name)
