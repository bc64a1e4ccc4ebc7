"""The speed of a training step, beside a plain implementation of the same step and plain supervised fine-tuning."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from mfm_hf.benchmarking.data_wait import measure_data_wait
from mfm_hf.benchmarking.machine import Seconds, describe_machine, timed
from mfm_hf.benchmarking.operations import count_flops
from mfm_hf.benchmarking.plain_step import Handicaps, PlainStep
from mfm_hf.benchmarking.setup import Inputs, make_inputs, random_network, with_mfm
from mfm_hf.benchmarking.step_parts import timed_parts
from mfm_hf.data.transforms import normalize
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.training_args import UdaTrainingArguments

FAST, PLAIN, FINE_TUNING, NO_MFM = "this package", "plain step", "fine-tuning", "without MFM"
COMPILED = f"{FAST}, compiled"

Candidate = Callable[[Inputs], Any]


def measure_training(
    args: UdaTrainingArguments, *, steps: int, warmup: int = 1, without: Sequence[str] = (), data_wait: bool = True
) -> dict[str, Any]:
    """Measure the step of this package and the baselines, in turns, so that all meet the same machine.

    Args:
        args: Describe the network, the recipe and the step. With `mfm` the step without it is measured too; with
            `compile` the compiled step, beside the one that is not, of which all other figures are.
        steps: Measured steps of each.
        warmup: Steps before that, which are not counted.
        without: Handicaps of the plain step; for each, the plain step without it is measured too.
        data_wait: Whether to measure how long steps wait for their batches.

    Returns:
        By candidate `seconds_per_step`, its quartiles as `spread`, and `processor_seconds_per_step`; of this package's
        step `speedup_over_plain`, `images_per_second`, `flops_per_step`, `fraction_of_peak` and `parts`; with MFM
        `mfm_cost`; with `compile` the `compile_seconds`, by which the first step of the compiled step takes longer than
        its others; `data_wait`; the losses of the first step by candidate, and the `machine`.

    Raises:
        ValueError: If the arguments do not go together, or no handicap has such a name.
    """
    if unknown := set(without) - set(Handicaps.names()):
        raise ValueError(f"there is no handicap {min(unknown)!r}: choose among {', '.join(Handicaps.names())}")
    if args.compile and not warmup:
        raise ValueError("--compile happens in the first step, which would be measured: give --warmup 1 or more")
    accelerator = make_accelerator(args)
    student, recipe = random_network(args)
    inputs = make_inputs(recipe, student, warmup + steps, args.seed)
    as_written = replace(args, compile=False)
    own = {FAST: AdaptationStep(copy.deepcopy(student), recipe, as_written, accelerator)}
    if args.mfm:
        own[NO_MFM] = _step_without_mfm(as_written, student)
    candidates = {name: _of_step(step) for name, step in own.items()}
    if args.compile:
        candidates[COMPILED] = _of_step(AdaptationStep(copy.deepcopy(student), recipe, args, accelerator))
    candidates |= _baselines(args, student, recipe, accelerator.device, without)
    all_seconds, first_losses = _take_turns(candidates, inputs, accelerator.device)

    seconds = {name: parts[warmup:] for name, parts in all_seconds.items()}
    medians = {name: statistics.median(part.wall for part in parts) for name, parts in seconds.items()}
    processor = {name: statistics.median(part.processor for part in parts) for name, parts in seconds.items()}
    flops = {name: count_flops(partial(candidates[name], inputs[-1])) for name in own}
    precision = torch.bfloat16 if args.mixed_precision == "bf16" else torch.float32
    machine = describe_machine(accelerator.device, (torch.float32, torch.bfloat16))
    peak = machine.peak_flops[str(precision).removeprefix("torch.")]
    return {
        "machine": asdict(machine),
        "arguments": args.changed(),
        "seconds_per_step": medians,
        "processor_seconds_per_step": processor,
        "spread": {name: _quartiles([part.wall for part in parts]) for name, parts in seconds.items()},
        "speedup_over_plain": medians[PLAIN] / medians[FAST],
        "processor_speedup_over_plain": processor[PLAIN] / processor[FAST],
        "times_fine_tuning": medians[FAST] / medians[FINE_TUNING],
        "images_per_second": 2 * recipe.per_device_train_batch_size / medians[FAST],
        "flops_per_step": flops,
        "fraction_of_peak": flops[FAST] / medians[FAST] / peak,
        "mfm_cost": _mfm_cost(medians, processor, flops) if args.mfm else None,
        "compile_seconds": all_seconds[COMPILED][0].wall - medians[COMPILED] if args.compile else None,
        "parts": _parts(own[FAST], inputs[-min(3, steps) :], accelerator.device),
        "data_wait": measure_data_wait(own[FAST], args, recipe, min(10, steps)) if data_wait else None,
        "encode": own[FAST].encode_mode,
        "first_losses": first_losses,
    }


def _take_turns(
    candidates: Mapping[str, Candidate], inputs: Sequence[Inputs], device: torch.device
) -> tuple[dict[str, list[Seconds]], dict[str, dict[str, float]]]:
    """Time every candidate on every input, and keep the losses of the first."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in candidates}
    first_losses: dict[str, dict[str, float]] = {}
    for index, given in enumerate(inputs):
        for name, candidate in candidates.items():
            losses, taken = timed(partial(candidate, given), device)
            seconds[name].append(taken)
            if index == 0:
                first_losses[name] = {key: loss.item() for key, loss in losses.items()}
    return seconds, first_losses


def _step_without_mfm(args: UdaTrainingArguments, student: DomainAdaptationModel) -> AdaptationStep:
    other_args = with_mfm(args, False)
    other, recipe = random_network(other_args)
    names = set(other.state_dict())
    other.load_state_dict({name: tensor for name, tensor in student.state_dict().items() if name in names})
    return AdaptationStep(other, recipe, other_args, make_accelerator(other_args))


def _baselines(
    args: UdaTrainingArguments,
    student: DomainAdaptationModel,
    recipe: Recipe,
    device: torch.device,
    without: Sequence[str],
) -> dict[str, Candidate]:
    handicaps = {PLAIN: Handicaps()} | {f"{PLAIN} without {name}": Handicaps().without(name) for name in without}
    plain = {
        name: _of_step(PlainStep(copy.deepcopy(student), recipe, args, device, slow))
        for name, slow in handicaps.items()
    }
    return {**plain, FINE_TUNING: _fine_tuning(copy.deepcopy(student), recipe, device)}


def _of_step(step: AdaptationStep | PlainStep) -> Candidate:
    return lambda given: step(given.source, given.target, given.choices)


def _fine_tuning(student: DomainAdaptationModel, recipe: Recipe, device: torch.device) -> Candidate:
    """Supervised training of the inference class as users of transformers write it: its own loss, AdamW, float32."""
    model = student.to_inference().to(device).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)

    def step(given: Inputs) -> dict[str, torch.Tensor]:
        pixels, labels = (given.source[key].to(device) for key in ("pixel_values", "labels"))
        optimizer.zero_grad()
        loss = model(pixel_values=normalize(pixels), labels=labels).loss
        loss.backward()
        optimizer.step()
        return {"source": loss.detach()}

    return step


def _mfm_cost(
    wall: Mapping[str, float], processor: Mapping[str, float], flops: Mapping[str, float]
) -> dict[str, float]:
    """What MFM adds to a step, as shares of the step without it."""
    return {
        name: values[FAST] / values[NO_MFM] - 1
        for name, values in (("time", wall), ("processor_time", processor), ("operations", flops))
    }


def _parts(step: AdaptationStep, inputs: Sequence[Inputs], device: torch.device) -> dict[str, float]:
    with timed_parts(step, device) as seconds:
        for given in inputs:
            step(given.source, given.target, given.choices)
    return {part: total / len(inputs) for part, total in seconds.items()}


def _quartiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
