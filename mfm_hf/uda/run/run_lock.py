"""A lock on the output folder of a run, so that a second run in it is refused.

The lock is the system's (`lockf`), not a file's existence: it ends with the process that holds it, however that ends,
so a killed run locks nobody out. Worker processes do not inherit it, and network file systems know it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"


class FolderInUseError(OSError):
    """Another run is at work in the folder. The message names it."""


@contextmanager
def hold(output_dir: Path) -> Iterator[None]:
    """Lock an existing folder for this process.

    Raises:
        FolderInUseError: If another process has locked it.
    """
    if sys.platform == "win32":
        logger.warning("no lock on %s: this system has none; see to it that no second run uses the folder", output_dir)
        yield
        return
    path = output_dir / LOCK_FILE
    descriptor = _open_locked(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(_holder()).encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is locked: nobody else has taken this file for theirs
        os.close(descriptor)


def check_free(output_dir: Path) -> None:
    """See whether another process has locked the folder. Not for the process that holds the lock: it would lose it.

    Raises:
        FolderInUseError: If one has.
    """
    if (output_dir / LOCK_FILE).exists():
        with hold(output_dir):
            pass


def _holder() -> dict[str, str | int]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(" ", "minutes")}


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the two answers that POSIX allows
            told = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            raise FolderInUseError(
                f"{path.parent} is in use by {_describe(told)}: choose another --output_dir"
            ) from None
        except OSError as error:
            logger.warning("no lock on %s (%s): see to it that no second run uses the folder", path.parent, error)
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)  # its holder has removed it between our opening and our locking


def _describe(told: str) -> str:
    try:
        holder = json.loads(told)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
