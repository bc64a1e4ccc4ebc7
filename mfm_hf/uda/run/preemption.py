"""Ending a run at a signal: the step under way is finished and saved, in every process at the same step."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

import torch
import torch.distributed
from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Launchers forward a signal that the process group has had already. What comes within this time is the same request.
ECHO_SECONDS = 2.0


class Preempted(SystemExit):
    """A run was asked to end, and has ended in good order.

    The exit code is that of a process which the signal ended, 128 + its number, as shells and schedulers expect it: 143
    for SIGTERM, 130 for SIGINT. It is not 0, since the training is not done.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class StopRequest:
    """Listens for SIGTERM and SIGINT while it is entered; the second one ends the process at once.

    `accelerate launch` passes no signal on to the only process that it has started. So the end of that launcher counts
    as a SIGTERM, too.

    Args:
        accelerator: The processes, which agree on the step at which they stop.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._is_main = accelerator.is_main_process
        self._signum = 0
        self._time = 0.0
        self._pid = os.getpid()
        self._launcher = os.getppid() if "ACCELERATE_MIXED_PRECISION" in os.environ else None
        self._previous: dict[int, signal._HANDLER] = {}
        # Of its own and on the CPU, so that no process waits for its GPU to hear of it.
        self._group = torch.distributed.new_group(backend="gloo") if accelerator.num_processes > 1 else None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python's signals reach no other
            self._previous = {signum: signal.signal(signum, self._hear) for signum in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        if self._group is not None and torch.distributed.is_initialized():  # the run may have ended it
            torch.distributed.destroy_process_group(self._group)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a process forked from this one, which is told otherwise
        now = time.monotonic()
        if not self._signum:
            self._signum, self._time = signum, now
            self._say(f"\n{signal.Signals(signum).name}: ending after this step; a second signal ends at once\n")
        elif now - self._time > ECHO_SECONDS:
            os._exit(128 + signum)

    def _say(self, text: str) -> None:
        if self._is_main:
            os.write(2, text.encode())  # print may have been interrupted by the signal, and is not reentrant

    def heard(self) -> int:
        """Return the number of the signal that any process has had, 0 for none. Every process has to ask."""
        if not self._signum and self._launcher not in (None, os.getppid()):
            self._signum = signal.SIGTERM
        if self._group is None:
            return self._signum
        signum = torch.tensor(self._signum)
        torch.distributed.all_reduce(signum, torch.distributed.ReduceOp.MAX, self._group)
        return int(signum)
