"""The speed of a training step, beside a plain implementation of the same step and plain supervised fine-tuning."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mfm_hf.benchmarking.candidate import (
    Candidate,
    FineTuning,
    measure_in_own_process,
    own_step,
    plain_step,
)
from mfm_hf.benchmarking.plain_step import Handicaps
from mfm_hf.benchmarking.setup import with_mfm
from mfm_hf.uda.training_args import UdaTrainingArguments

FAST, PLAIN, FINE_TUNING, NO_MFM = "this package", "plain step", "fine-tuning", "without MFM"
COMPILED = f"{FAST}, compiled"


def measure_training(
    args: UdaTrainingArguments,
    *,
    steps: int,
    warmup: int = 1,
    without: Sequence[str] = (),
    data_wait: bool = True,
    other_encode: bool = True,
) -> dict[str, Any]:
    """Measure the step of this package and the baselines, each in a process of its own, one after another.

    Args:
        args: Describe the network, the recipe and the step. With `mfm` the step without it is measured too; with
            `compile` the compiled step, beside the one that is not, of which all other figures are.
        steps: Measured steps of each.
        warmup: Steps before that, which are not counted.
        without: Handicaps of the plain step; for each, the plain step without it is measured too.
        data_wait: Whether to measure how long steps wait for their batches.
        other_encode: Whether to measure the other way to encode views, too: together, or one by one.

    Returns:
        By candidate `seconds_per_step`, its quartiles as `spread`, `processor_seconds_per_step`, `peak_memory` in bytes
        and the `matrix_product` that its process reached in float32, in operations per second; of this package's step
        `speedup_over_plain`, `images_per_second`, `flops_per_step`, `fraction_of_peak` and `parts`; with MFM
        `mfm_cost`; with `compile` the `compile_seconds`, by which the first step of the compiled step takes longer than
        its others; `data_wait`; the losses of the first step by candidate, and the `machine`.

    Raises:
        ValueError: If the arguments do not go together, no handicap has such a name, or a process was killed.
    """
    if unknown := set(without) - set(Handicaps.names()):
        raise ValueError(f"there is no handicap {min(unknown)!r}: choose among {', '.join(Handicaps.names())}")
    if args.compile and not warmup:
        raise ValueError("--compile happens in the first step, which would be measured: give --warmup 1 or more")
    own = Candidate(own_step, replace(args, compile=False), counted=True, taken_apart=True, data_wait=data_wait)
    fast = measure_in_own_process(own, steps, warmup)
    measured = {FAST: fast}
    for name, candidate in _others(args, fast.encode if other_encode else None, without).items():
        measured[name] = measure_in_own_process(candidate, steps, warmup)

    seconds = {name: found.seconds[warmup:] for name, found in measured.items()}
    medians = {name: statistics.median(part.wall for part in parts) for name, parts in seconds.items()}
    processor = {name: statistics.median(part.processor for part in parts) for name, parts in seconds.items()}
    flops = {name: found.flops for name, found in measured.items() if found.flops is not None}
    peak = fast.machine.peak_flops["bfloat16" if args.mixed_precision == "bf16" else "float32"]
    return {
        "machine": asdict(fast.machine),
        "arguments": args.changed(),
        "seconds_per_step": medians,
        "processor_seconds_per_step": processor,
        "spread": {name: _quartiles([part.wall for part in parts]) for name, parts in seconds.items()},
        "peak_memory": {name: found.peak_memory for name, found in measured.items()},
        "matrix_product": {name: found.machine.peak_flops["float32"] for name, found in measured.items()},
        "speedup_over_plain": medians[PLAIN] / medians[FAST],
        "processor_speedup_over_plain": processor[PLAIN] / processor[FAST],
        "times_fine_tuning": medians[FAST] / medians[FINE_TUNING],
        "images_per_second": fast.images_per_step / medians[FAST],
        "flops_per_step": flops,
        "fraction_of_peak": flops[FAST] / medians[FAST] / peak,
        "mfm_cost": _mfm_cost(medians, processor, flops) if args.mfm else None,
        "compile_seconds": measured[COMPILED].seconds[0].wall - medians[COMPILED] if args.compile else None,
        "parts": fast.parts,
        "data_wait": fast.data_wait,
        "encode": fast.encode,
        "first_losses": {name: found.first_losses for name, found in measured.items()},
    }


def _others(args: UdaTrainingArguments, encode: str | None, without: Sequence[str]) -> dict[str, Candidate]:
    """Return what is measured beside the step of this package, and if `encode` is given, the other way of that."""
    as_written = replace(args, compile=False)
    handicaps = {PLAIN: Handicaps()} | {f"{PLAIN} without {name}": Handicaps().without(name) for name in without}
    candidates: dict[str, Candidate] = {}
    if args.mfm:
        candidates[NO_MFM] = Candidate(own_step, with_mfm(as_written, False), counted=True)
    if args.compile:
        candidates[COMPILED] = Candidate(own_step, args)
    if encode == "one_by_one":
        candidates[f"{FAST}, views_together"] = Candidate(own_step, replace(as_written, encode="views_together"))
    elif encode == "views_together":
        candidates[f"{FAST}, one_by_one"] = Candidate(own_step, replace(as_written, encode="one_by_one"))
    candidates |= {name: Candidate(plain_step(slow), as_written) for name, slow in handicaps.items()}
    return candidates | {FINE_TUNING: Candidate(FineTuning, as_written)}


def _mfm_cost(
    wall: Mapping[str, float], processor: Mapping[str, float], flops: Mapping[str, float]
) -> dict[str, float]:
    """What MFM adds to a step, as shares of the step without it."""
    return {
        name: values[FAST] / values[NO_MFM] - 1
        for name, values in (("time", wall), ("processor_time", processor), ("operations", flops))
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
