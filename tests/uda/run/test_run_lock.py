import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mfm_hf.uda.run import run_lock


@contextmanager
def holder(folder: Path) -> Iterator[tuple[int, int]]:
    """A process that holds the lock, and a child that it has forked, as workers are."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with run_lock.hold(folder):
            child = os.fork()
            if child:
                os.write(writing, str(child).encode())
            time.sleep(60)
        os._exit(0)
    child = int(os.read(reading, 100))
    try:
        yield pid, child
    finally:
        for process in (pid, child):
            os.kill(process, signal.SIGKILL)
        os.waitpid(pid, 0)
        for end in (reading, writing):
            os.close(end)


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as (pid, _):
        for attempt in (lambda: run_lock.hold(tmp_path).__enter__(), lambda: run_lock.check_free(tmp_path)):
            with pytest.raises(run_lock.FolderInUseError, match=rf"in use by process {pid} on .* since .*: choose"):
                attempt()
    run_lock.check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_locks_nobody_out(tmp_path: Path) -> None:
    with holder(tmp_path) as (pid, child):
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.kill(child, 0)  # its worker lives on for a while
        assert (tmp_path / run_lock.LOCK_FILE).exists()
        with run_lock.hold(tmp_path):
            assert f'"pid": {os.getpid()},' in (tmp_path / run_lock.LOCK_FILE).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_of_nobody_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / run_lock.LOCK_FILE).write_text("nonsense")
    run_lock.check_free(tmp_path)
    with run_lock.hold(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_lock_is_not_touched(tmp_path: Path) -> None:
    run_lock.check_free(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
