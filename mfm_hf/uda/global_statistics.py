"""Statistics over the images of all processes, as one process with all their images would take them.

`TrainingStream` deals the images out one by one: image i of process r is number i * num_processes + r of the whole.
Gradients are averaged over the processes, so what one process divides by is a mean over processes too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor

BatchStatistics = Literal["process", "global"]

T = TypeVar("T")


def gather_images(values: Sequence[T]) -> list[T]:
    """Return what the processes say of their images, in the order of the whole batch.

    Args:
        values: One for each image of this process; every process has as many.
    """
    gathered = list(gather_object(list(values)))  # all of process 0, then all of process 1, ...
    return [value for index in range(len(values)) for value in gathered[index :: len(values)]]


def share_of_this_process() -> slice:
    """Return which images of the whole batch are this process's."""
    state = PartialState()
    return slice(state.process_index, None, state.num_processes)


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a floating-point tensor over the processes."""
    return reduce(value, "mean")


def count_true(mask: Tensor, statistics: BatchStatistics = "process") -> Tensor:
    """Return the number of set positions, to divide a sum over them by; where there are none, 1.

    Args:
        mask: bool, any shape.
        statistics: `global` counts in all processes, and returns the count for each of them.
    """
    if statistics == "process":
        return mask.sum().clamp(min=1)
    return reduce(mask.sum(), "sum").clamp(min=1) / PartialState().num_processes
