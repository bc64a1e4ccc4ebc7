import os
import signal
import threading

import pytest
from accelerate import Accelerator

from mfm_hf.uda.run.preemption import ECHO_SECONDS, Preempted, StopRequest


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_a_request(signum: int, code: int, accelerator: Accelerator, capfd: pytest.CaptureFixture) -> None:
    before = signal.getsignal(signum)
    with StopRequest(accelerator) as stop:
        assert stop.heard() == 0
        os.kill(os.getpid(), signum)
        assert stop.heard() == signum
        os.kill(os.getpid(), signum)  # the same request, forwarded by a launcher
        assert stop.heard() == signum
    assert signal.getsignal(signum) is before
    assert Preempted(signum).code == code
    assert capfd.readouterr().err.count("a second signal ends at once") == 1


def test_a_second_signal_ends_at_once(accelerator: Accelerator) -> None:
    pid = os.fork()
    if pid == 0:
        with StopRequest(accelerator) as stop:
            stop._pid = os.getpid()
            os.kill(os.getpid(), signal.SIGINT)
            stop._time -= ECHO_SECONDS
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143


def test_a_process_forked_meanwhile_is_not_meant(accelerator: Accelerator) -> None:
    with StopRequest(accelerator) as stop:
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(stop.heard())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("launched", [True, False])
def test_the_end_of_the_launcher_counts(
    launched: bool, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launched:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with StopRequest(accelerator) as stop:
        assert stop.heard() == 0
        monkeypatch.setattr(os, "getppid", lambda: 1)  # as for an orphan
        assert stop.heard() == (signal.SIGTERM if launched else 0)


def test_another_thread_trains_without_signals(accelerator: Accelerator) -> None:
    heard = []

    def run() -> None:
        with StopRequest(accelerator) as stop:
            heard.append(stop.heard())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert heard == [0]
