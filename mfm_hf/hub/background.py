"""Publish snapshots of a training while it goes on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path


class BackgroundUploads:
    """Uploads one folder after the other in a thread of its own; of those that wait, the newest wins.

    Each folder is deleted when it has been uploaded, has failed, or a newer one has taken its place.

    Args:
        upload: What to do with a folder.
        on_failure: Told of a folder that could not be uploaded, in that thread.
    """

    def __init__(self, upload: Callable[[Path], object], on_failure: Callable[[Path, Exception], None]) -> None:
        self._upload = upload
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._waiting: Path | None = None
        self._thread: threading.Thread | None = None

    def submit(self, folder: Path) -> None:
        """Upload a folder as soon as the upload under way has ended."""
        with self._lock:
            outdated, self._waiting = self._waiting, folder
            if self._thread is None:
                # A daemon: a run that is told to end does not wait for it, and the Hub takes a commit whole or not.
                self._thread = threading.Thread(target=self._work, name="push", daemon=True)
                self._thread.start()
        _delete(outdated)

    def finish(self) -> None:
        """Drop what waits, and wait for the upload under way."""
        with self._lock:
            outdated, self._waiting = self._waiting, None
            thread = self._thread
        _delete(outdated)
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                folder, self._waiting = self._waiting, None
                if folder is None:
                    self._thread = None
                    return
            try:
                self._upload(folder)
            except Exception as error:  # whatever it is, the training goes on, and so does the next upload
                self._on_failure(folder, error)
            finally:
                _delete(folder)


def _delete(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
