"""The output folder of a run: whom it belongs to, and results that are never half-written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError

from mfm_hf.files import sync
from mfm_hf.uda.run import run_lock

RESULTS_FILE = "results.json"
LOG_FILE = "log.jsonl"
SKIPPED_STEPS_FILE = "skipped_steps.jsonl"
BEST_FOLDER = "best"
JOURNALS = (LOG_FILE, SKIPPED_STEPS_FILE)  # appended to while the run goes on

# A run that ended before any of these has left nothing that is worth a question.
_WORTH_KEEPING = (RESULTS_FILE, "config.json", "*.safetensors", "*.safetensors.index.json", BEST_FOLDER, "checkpoint-*")
# What a process leaves that is killed while it writes.
_HALF_WRITTEN = (".checkpoint-*", ".export-*", ".push-*", f".{BEST_FOLDER}.*", ".*.json.tmp")
_OF_A_RUN = (
    *_WORTH_KEEPING, *_HALF_WRITTEN, *JOURNALS, "training_args.json", "preprocessor_config.json", "pictures",
)  # fmt: skip


def check(output_dir: Path, *, resume_from: str | None, overwrite: bool) -> None:
    """See whether a run may use the folder, without changing anything in it.

    Args:
        output_dir: The folder; it is made if need be.
        resume_from: What `--resume_from_checkpoint` says.
        overwrite: Whether the run may delete what another run left.

    Raises:
        FolderInUseError: If another run is at work in the folder.
        FileExistsError: If the folder holds another run, which this one neither continues nor may delete.
        OSError: If it cannot be written to.
    """
    run_lock.check_free(output_dir)
    if _matches(output_dir, _WORTH_KEEPING) and not continues(output_dir, resume_from) and not overwrite:
        raise FileExistsError(
            f"{output_dir} holds another run: choose another --output_dir, go on with --resume_from_checkpoint latest, "
            "or replace it with --overwrite_output_dir"
        )
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):  # fails now rather than after the training
            pass
    except OSError as error:
        raise OSError(f"cannot write to {output_dir} ({error.strerror}): choose another --output_dir") from None


def continues(output_dir: Path, resume_from: str | None) -> bool:
    """Return whether to resume is to go on with the run in the folder, rather than to start another one from it."""
    return resume_from == "latest" or (
        resume_from is not None and Path(resume_from).resolve().parent == output_dir.resolve()
    )


def clear(output_dir: Path) -> None:
    """Delete what another run left; files that are none of a run's stay."""
    _delete(output_dir, _OF_A_RUN)


def go_back(output_dir: Path, journals: Mapping[str, int]) -> None:
    """Take from the folder what the run wrote after a checkpoint, up to what it will write again in the same place.

    Args:
        output_dir: The folder.
        journals: What `journal_sizes` returned at the checkpoint.
    """
    _delete(output_dir, _HALF_WRITTEN)
    for name in JOURNALS:
        path, size = output_dir / name, journals.get(name, 0)
        if path.exists() and path.stat().st_size > size:
            os.truncate(path, size)


def _delete(output_dir: Path, patterns: tuple[str, ...]) -> None:
    for path in _matches(output_dir, patterns):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _matches(output_dir: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in output_dir.glob(pattern)]


def journal_sizes(output_dir: Path) -> dict[str, int]:
    """Return the size in bytes of each journal that there is, once it has reached the disk."""
    paths = [output_dir / name for name in JOURNALS if (output_dir / name).exists()]
    for path in paths:
        sync(path)
    return {path.name: path.stat().st_size for path in paths}


def write_export(output_dir: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill an empty folder, then move its files into the output folder in place of older ones.

    A fresh folder, because saving over an older export would leave the index of its shards behind.

    Raises:
        OSError: If there is no room, or the like. The older export is then as it was.
    """
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".export-") as folder:
        try:
            write(Path(folder))
            for path in Path(folder).iterdir():
                sync(path)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"cannot export the network to {output_dir} ({error}): make room, and resume from the last checkpoint"
            ) from error
        names = {path.name for path in Path(folder).iterdir()}
        for name in names:
            os.replace(Path(folder) / name, output_dir / name)
    for path in _matches(output_dir, ("*.safetensors", "*.safetensors.index.json")):
        if path.name not in names:
            path.unlink()
