"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mfm_hf.benchmarking.machine import synchronize
from mfm_hf.uda.adaptation_step import AdaptationStep


@contextmanager
def timed_parts(step: AdaptationStep, device: torch.device) -> Iterator[dict[str, float]]:
    """Time the parts of the steps that are done inside.

    The device is waited for at the borders of every part, so the steps are slower than outside; the shares are what
    counts. `views` holds the teacher's part; `backward` is that of all objectives.

    Yields:
        Seconds by part, over all steps.
    """
    seconds: dict[str, float] = defaultdict(float)
    started: dict[str, float] = {}
    handles = []

    def start(part: str) -> None:
        synchronize(device)
        started[part] = time.perf_counter()

    def stop(part: str) -> None:
        synchronize(device)
        seconds[part] += time.perf_counter() - started[part]

    def watch(part: str, module: nn.Module) -> None:
        handles.append(module.register_forward_pre_hook(lambda *_: start(part)))
        handles.append(module.register_forward_hook(lambda *_: stop(part)))

    def wrap(part: str, owner: Any, name: str) -> Callable[[], None]:
        inner = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            start(part)
            try:
                return inner(*args, **kwargs)
            finally:
                stop(part)

        setattr(owner, name, call)
        return lambda: delattr(owner, name)

    student = step.student
    watch("encode", student.encoder)
    for index, decoder in enumerate(student.decoders):
        watch(f"decode_{index}" if index else "decode", decoder)
    if student.rebuilder is not None:
        watch("rebuild", student.rebuilder)
    undo = [
        wrap("views", step, "make_views"),
        wrap("backward", step.accelerator, "backward"),
        wrap("optimizer", step.optimizer, "step"),
    ]
    if step.teacher is not None:
        watch("teacher", step.teacher.model)
        undo.append(wrap("ema", step.teacher, "update"))
    try:
        yield seconds
    finally:
        for handle in handles:
            handle.remove()
        for restore in undo:
            restore()
