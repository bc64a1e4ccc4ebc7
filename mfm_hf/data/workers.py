"""The worker processes that decode images: deaf to signals of others, and named when they die."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class WorkerDiedError(OSError):
    """A worker process ended before its work did. The message says how to find out why."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"a process that decodes images died ({reason}): if memory is short, lower --dataloader_num_workers; with "
            "0 the error shows itself. The last checkpoint resumes"
        )


def heed_parent_alone(worker: int) -> None:
    """Leave it to the process that trains to end this one, and to no one else.

    Ctrl-C and the schedulers of clusters signal every process at once, and the step under way needs its samples.

    Args:
        worker: Number of the worker, as `DataLoader` tells its `worker_init_fn`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where PyTorch's handler ends the worker
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def worker_deaths_named() -> Iterator[None]:
    """Turn the error with which PyTorch reports the death of a worker, wherever it strikes, into one that says more.

    Raises:
        WorkerDiedError: A worker died.
    """
    try:
        yield
    except RuntimeError as error:
        reason = next((text for text in _messages(error) if text.startswith("DataLoader worker")), None)
        if reason is None:
            raise
        raise WorkerDiedError(reason.partition(".")[0]) from error


def _messages(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__
