import multiprocessing
import os
import signal
from dataclasses import replace

import pytest

from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.transforms import TrainingTransform
from mfm_hf.data.workers import WorkerDiedError, worker_deaths_named


class Interrupted:
    """Decodes until it meets row 3, where its process ends or is sent a signal, by itself or by a stranger."""

    def __init__(self, decode, signum=None):
        self.decode, self.signum = decode, signum

    def __call__(self, row):
        if row["number"] == 3:
            os._exit(1) if self.signum is None else os.kill(os.getpid(), self.signum)
        return self.decode(row)


def stream_of(domain):
    return TrainingStream(domain, TrainingTransform((8, 8)), batch_size=4, seed=0, num_workers=1)


def names(stream):
    with worker_deaths_named():
        found = [next(stream)["names"] for _ in range(4)]
    stream.close()
    return found


@pytest.mark.parametrize("signum", [None, signal.SIGKILL])
def test_a_worker_that_dies_is_one_clear_line(number_domain, signum):
    domain = number_domain(10)
    stream = stream_of(replace(domain, decode=Interrupted(domain.decode, signum)))
    with pytest.raises(WorkerDiedError, match=r"^a process that decodes images died \(.+\): if memory is short"):
        names(stream)
    stream.close()


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_lost_connection_is_a_worker_that_died(number_domain, error):
    """PyTorch lets it through where a worker dies with a sample on its way, before the system reports the death."""

    def lost():
        raise error
        yield

    stream = TrainingStream(number_domain(10), TrainingTransform((8, 8)), batch_size=4, seed=0)
    stream._samples = lost()
    with pytest.raises(WorkerDiedError, match=r"died \(the connection to it was lost, .*\): if memory is short, lower"):
        next(stream)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_the_process_that_trains(number_domain, signum):
    domain = number_domain(10)
    interrupted = stream_of(replace(domain, decode=Interrupted(domain.decode, signum)))
    assert names(interrupted) == names(stream_of(domain))


def test_workers_obey_the_process_that_trains(number_domain):
    """As at its exit, when it has not closed the stream: it would wait for them for ever."""
    stream = stream_of(number_domain(10))
    next(stream)
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(timeout=10)
    assert worker.exitcode == 0
    stream.close()


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), worker_deaths_named():
        raise RuntimeError("shapes differ")
