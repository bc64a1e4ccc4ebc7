"""Where class statistics are kept, so that labels are counted once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfm_hf.data.domain import Domain

logger = logging.getLogger(__name__)

FILE_NAME = "class_statistics.npz"

_FORMAT = 1  # counts of another format are counted anew
# What NumPy raises for files that are damaged in one way or another.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class ClassStatisticsCache:
    """The cached pixel counts of one state of one domain's labels.

    Attributes:
        fingerprint: Identifies the labels, the classes and the ignore index.
        files: Where the counts may lie, the best place first: `class_statistics.npz` beside the data of a folder,
            then the user's cache folder (`$XDG_CACHE_HOME/mfm_hf`, by default `~/.cache/mfm_hf`).
    """

    fingerprint: str
    files: tuple[Path, ...]

    @classmethod
    def of(cls, domain: Domain) -> ClassStatisticsCache | None:
        """The cache of a domain; None for a domain that cannot tell whether its labels changed."""
        source = domain.label_source
        if source is None:
            return None
        identity = [_FORMAT, domain.num_rows, domain.classes.names, domain.ignore_index, source.fingerprint()]
        fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        beside_data = () if source.folder is None else (source.folder / FILE_NAME,)
        return cls(fingerprint, (*beside_data, _user_folder() / f"{fingerprint[:32]}.npz"))

    def load(self) -> np.ndarray | None:
        """Return the counts, or None if they are not there, are of other labels, or are damaged (with a warning)."""
        for file in filter(Path.is_file, self.files):
            try:
                with np.load(file, allow_pickle=False) as stored:
                    if str(stored["fingerprint"]) == self.fingerprint:
                        return stored["counts"]
                logger.info("%s does not fit the labels any more", file)
            except _UNREADABLE as error:
                logger.warning("cannot use the class statistics in %s, which will be made anew: %s", file, error)
        return None

    def save(self, counts: np.ndarray) -> None:
        """Keep counts in the first place that can be written; in none, warn."""
        reasons = []
        for file in self.files:
            try:
                _write(file, self.fingerprint, counts)
                return
            except OSError as error:
                reasons.append(str(error))
        logger.warning("class statistics cannot be kept and will be counted again: %s", "; ".join(reasons))


def _write(file: Path, fingerprint: str, counts: np.ndarray) -> None:
    """Write a file that is there whole or not at all, whoever else writes it now."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.stem}.{uuid.uuid4().hex}.npz")
    try:
        np.savez_compressed(unfinished, fingerprint=np.array(fingerprint), counts=counts)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _user_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "mfm_hf" / "class_statistics"
