"""The most memory that a few training steps use, each kind of step measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mfm_hf.benchmarking.plain_step import Handicaps, PlainStep
from mfm_hf.benchmarking.setup import make_inputs, random_network
from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.training_args import UdaTrainingArguments

_STEPS = 2  # in the second the optimizer has its state


def measure_memory(args: UdaTrainingArguments) -> dict[str, int]:
    """Return by kind of step the most bytes in use: on a GPU PyTorch's, else the process's, with all its libraries.

    Args:
        args: Describe the network and the step. Whatever they say of `encode`, both ways are measured.
    """
    kinds = {
        "views_together": (replace(args, encode="views_together"), False),
        "one_by_one": (replace(args, encode="one_by_one"), False),
        "plain": (args, True),
    }
    return {name: _in_own_process(*how) for name, how in kinds.items()}


def _in_own_process(args: UdaTrainingArguments, plain: bool) -> int:
    # Not by forking: what this process has used would count as the child's.
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(peak_of_steps, args, plain).result()


def peak_of_steps(args: UdaTrainingArguments, plain: bool) -> int:
    """Do a few steps, and return the most bytes that this process has used, or PyTorch of the GPU's.

    Args:
        args: Describe the network and the step.
        plain: Whether it is the plain step.
    """
    accelerator = make_accelerator(args)
    student, recipe = random_network(args)
    inputs = make_inputs(recipe, student, _STEPS, args.seed)
    step: Callable[..., Any]
    if plain:
        step = PlainStep(student, recipe, args, accelerator.device, Handicaps())
    else:
        step = AdaptationStep(student, recipe, args, accelerator)
    for given in inputs:
        step(given.source, given.target, given.choices)
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated(accelerator.device)
    return _peak_of_process()


def _peak_of_process() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # unlike `getrusage`, which a child begins with what its parent had used
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
