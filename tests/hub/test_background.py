import threading
from pathlib import Path

import pytest

from mfm_hf.hub.background import BackgroundUploads

SECONDS = 10.0


class Slow:
    """An upload that waits until it is let go, and then fails if it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.uploaded: list[str] = []
        self.failures: list[str] = []
        self.error: Exception | None = None

    def __call__(self, folder: Path) -> None:
        self.begun.release()
        assert self.go_on.acquire(timeout=SECONDS)
        assert folder.is_dir()
        if self.error is not None:
            raise self.error
        self.uploaded.append(folder.name)

    def fail(self, folder: Path, error: Exception) -> None:
        self.failures.append(f"{folder.name}: {error}")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in "abc"]
    for folder in made:
        folder.mkdir()
    return made


def test_newest_of_those_that_wait_wins_and_nobody_waits_for_them(folders: list[Path], tmp_path: Path) -> None:
    slow = Slow()
    uploads = BackgroundUploads(slow, slow.fail)
    uploads.submit(folders[0])
    assert slow.begun.acquire(timeout=SECONDS)
    uploads.submit(folders[1])
    uploads.submit(folders[2])  # returns, though the first is still under way
    assert not folders[1].exists()
    slow.go_on.release(2)
    assert slow.begun.acquire(timeout=SECONDS)
    uploads.finish()
    assert slow.uploaded == ["a", "c"]
    assert list(tmp_path.iterdir()) == []


def test_finish_waits_for_the_upload_under_way_and_drops_the_others(folders: list[Path], tmp_path: Path) -> None:
    slow = Slow()
    uploads = BackgroundUploads(slow, slow.fail)
    uploads.submit(folders[0])
    assert slow.begun.acquire(timeout=SECONDS)
    uploads.submit(folders[1])
    uploads.submit(folders[2])
    threading.Timer(0.05, slow.go_on.release).start()
    uploads.finish()
    assert slow.uploaded == ["a"]
    assert list(tmp_path.iterdir()) == []
    uploads.finish()  # there is nothing to wait for


@pytest.mark.parametrize("error", [OSError("refused"), KeyError("a fault of a library")])
def test_failure_is_told_and_the_next_upload_is_tried(error: Exception, folders: list[Path], tmp_path: Path) -> None:
    slow = Slow()
    slow.error = error
    slow.go_on.release(2)
    uploads = BackgroundUploads(slow, slow.fail)
    uploads.submit(folders[0])
    assert slow.begun.acquire(timeout=SECONDS)
    uploads.finish()
    assert slow.failures == [f"a: {error}"]
    slow.error = None
    uploads.submit(folders[1])
    assert slow.begun.acquire(timeout=SECONDS)
    uploads.finish()
    assert slow.uploaded == ["b"]
    assert not folders[0].exists()
