"""A way to do a training step, measured in a process of its own: what it takes, and the most memory that it holds."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import PartialState
from torch import Tensor

from mfm_hf.benchmarking.data_wait import measure_data_wait
from mfm_hf.benchmarking.machine import Machine, Seconds, describe_machine, timed
from mfm_hf.benchmarking.operations import count_flops
from mfm_hf.benchmarking.plain_step import Handicaps, PlainStep
from mfm_hf.benchmarking.setup import Inputs, make_inputs, random_network
from mfm_hf.benchmarking.step_parts import timed_parts
from mfm_hf.data.transforms import normalize
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.adaptation_step import AdaptationStep, Batch
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.training_args import UdaTrainingArguments


class Step(Protocol):
    """What all ways have in common."""

    def __call__(self, source: Batch, target: Batch | None, choices: StepChoices) -> Mapping[str, Tensor]:
        """Do the step, and return its losses by name."""


Make = Callable[[DomainAdaptationModel, Recipe, UdaTrainingArguments, torch.device], Step]


def own_step(
    student: DomainAdaptationModel, recipe: Recipe, args: UdaTrainingArguments, device: torch.device
) -> AdaptationStep:
    """Make the step of this package, which finds its device by itself."""
    return AdaptationStep(student, recipe, args, make_accelerator(args))


def plain_step(handicaps: Handicaps) -> Make:
    """Return what makes the plain step with some handicaps."""
    return partial(PlainStep, handicaps=handicaps)


class FineTuning:
    """Supervised training of the inference class as users of transformers write it: its own loss, AdamW, float32.

    Args:
        student: Its inference network is trained.
        recipe: Its rate is taken.
        args: Without influence.
        device: Where it computes.
    """

    def __init__(
        self, student: DomainAdaptationModel, recipe: Recipe, args: UdaTrainingArguments, device: torch.device
    ) -> None:
        self.device = device
        self.model = student.to_inference().to(device).train().requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate)

    def __call__(self, source: Batch, target: Batch | None, choices: StepChoices) -> dict[str, Tensor]:
        """Learn from the source images alone."""
        pixels, labels = (source[key].to(self.device) for key in ("pixel_values", "labels"))
        self.optimizer.zero_grad()
        loss = self.model(pixel_values=normalize(pixels), labels=labels).loss
        loss.backward()
        self.optimizer.step()
        return {"source": loss.detach()}


@dataclass(frozen=True)
class Candidate:
    """What is measured.

    Attributes:
        make: Makes the step; picklable.
        args: Describe the network, the recipe and the step.
        counted: Whether to count its operations.
        taken_apart: Whether to time the parts of the step, which must be this package's.
        data_wait: Whether to measure how long it waits for its batches, likewise.
    """

    make: Make
    args: UdaTrainingArguments
    counted: bool = False
    taken_apart: bool = False
    data_wait: bool = False


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        machine: As this candidate met it.
        images_per_step: Of source and target together.
        seconds: Of every step, those that warm up among them.
        first_losses: Unweighted, of the first step.
        peak_memory: The most bytes in use during the steps: on a GPU PyTorch's, else the process's with its libraries.
        flops: Operations of a step; None if they were not counted.
        parts: Seconds by part of a step.
        data_wait: See `measure_data_wait`.
        encode: How views pass the encoder; None for steps that have no choice.
    """

    machine: Machine
    images_per_step: int
    seconds: list[Seconds]
    first_losses: dict[str, float]
    peak_memory: int
    flops: int | None = None
    parts: dict[str, float] | None = None
    data_wait: dict[str, float] | None = None
    encode: str | None = None


def measure_candidate(candidate: Candidate, steps: int, warmup: int) -> Measured:
    """Do the steps of a candidate in this process.

    Args:
        candidate: What to measure.
        steps: Measured steps.
        warmup: Steps before that.
    """
    args = candidate.args
    device = PartialState(cpu=args.use_cpu).device
    student, recipe = random_network(args)
    inputs = make_inputs(recipe, student, warmup + steps, args.seed)
    step = candidate.make(student, recipe, args, device)
    seconds, first_losses = _timed_steps(step, inputs, device)
    found = Measured(
        peak_memory=_peak_memory(device),  # before what follows
        machine=describe_machine(device, (torch.float32, torch.bfloat16)),
        images_per_step=recipe.per_device_train_batch_size * (1 + recipe.uses_target),
        seconds=seconds,
        first_losses=first_losses,
    )
    given = inputs[-1]
    if candidate.counted:
        work = partial(step, given.source, given.target, given.choices)
        found = replace(found, flops=count_flops(work))
    if isinstance(step, AdaptationStep):
        parts = _parts(step, inputs[-min(3, steps) :], device) if candidate.taken_apart else None
        data_wait = measure_data_wait(step, args, recipe, min(10, steps)) if candidate.data_wait else None
        found = replace(found, encode=step.encode_mode, parts=parts, data_wait=data_wait)
    return found


def measure_in_own_process(candidate: Candidate, steps: int, warmup: int) -> Measured:
    """Do the steps of a candidate in a new process, which no other has left its memory to.

    Raises:
        ValueError: If the process was killed, or the arguments do not go together.
    """
    # Not by forking: what this process has used would count as the child's.
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(measure_candidate, candidate, steps, warmup).result()
        except BrokenProcessPool:
            raise ValueError(
                "the system killed a step that was measured, as it does when memory runs out: choose a smaller "
                "--crop_size, --per_device_train_batch_size or --backbone"
            ) from None


def _timed_steps(step: Step, inputs: Sequence[Inputs], device: torch.device) -> tuple[list[Seconds], dict[str, float]]:
    """Time the step on every input, and keep the losses of the first."""
    seconds: list[Seconds] = []
    first_losses: dict[str, float] = {}
    for given in inputs:
        losses, taken = timed(partial(step, given.source, given.target, given.choices), device)
        first_losses = first_losses or {name: loss.item() for name, loss in losses.items()}
        seconds.append(taken)
    return seconds, first_losses


def _parts(step: AdaptationStep, inputs: Sequence[Inputs], device: torch.device) -> dict[str, float]:
    with timed_parts(step, device) as seconds:
        for given in inputs:
            step(given.source, given.target, given.choices)
    return {part: total / len(inputs) for part, total in seconds.items()}


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # unlike `getrusage`, which a child begins with what its parent had used
        lines: dict[str, Any] = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
