"""What the machine can do: the yardstick that a step's operations are held against."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """The machine and what was measured of it.

    Attributes:
        device: Name of the GPU, or else of the processor.
        threads: Threads that PyTorch computes with on the CPU.
        versions: Of Python and PyTorch.
        peak_flops: By precision, the operations per second of a large matrix product.
    """

    device: str
    threads: int
    versions: str
    peak_flops: dict[str, float]


def describe_machine(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> Machine:
    """Name the machine and measure its matrix product in each type."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    peaks = {str(dtype).removeprefix("torch."): matrix_flops(device, dtype) for dtype in dtypes}
    return Machine(name, torch.get_num_threads(), versions, peaks)


def processor_name() -> str:
    """Return what the system calls the processor, or its kind where the system does not say."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def matrix_flops(device: torch.device, dtype: torch.dtype, repeats: int = 7) -> float:
    """Return the operations per second of a square matrix product, 2 n^3 of them, in the median of some repeats."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = [timed(lambda: left @ right, device)[1].wall for _ in range(repeats + 1)][1:]  # the first warms up
    return 2 * size**3 / statistics.median(seconds)


class Seconds(NamedTuple):
    """How long a piece of work took.

    Attributes:
        wall: By the clock on the wall.
        processor: Of all threads of this process together. On a machine that is shared, with one thread, this is what
            the work takes when nothing else runs.
    """

    wall: float
    processor: float


def timed(work: Callable[[], T], device: torch.device) -> tuple[T, Seconds]:
    """Return what a piece of work returns, and how long it takes, on the device too."""
    synchronize(device)
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    synchronize(device)
    return result, Seconds(time.perf_counter() - wall, time.process_time() - processor)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
