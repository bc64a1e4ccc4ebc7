"""What the trainings of a suite came to: one line per run, one entry in it per seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mfm_hf.commands.comparison.suite import Suite, SuiteRun
from mfm_hf.commands.comparison.trainings import Training
from mfm_hf.hub.public_results import public_results


@dataclass(frozen=True)
class SeedResult:
    """The results of a run with one seed. Shares are in percent.

    Attributes:
        seed: The seed.
        mean_iou: Mean IoU on the target.
        per_class_iou: By class, in the papers' order; None for a class that never occurs.
        gain: Mean IoU above the baseline's with the same seed; None without such a result.
        seconds_per_step: Median over the lines of the log; None where no step was timed.
        cost: `seconds_per_step` over the baseline's with the same seed; None without such a result.
        steps: Optimizer steps.
        peak_memory_bytes: None where it was not measured.
        hardware: What it was trained on, such as `1 x CPU`.
        arguments: The arguments of `train` that are not at their default. Of a place on the machine it was trained on
            only the last part is kept, and of a benchmark's folder nothing (`gta:DIR` is `gta`).
    """

    seed: int
    mean_iou: float
    per_class_iou: Mapping[str, float | None]
    gain: float | None
    seconds_per_step: float | None
    cost: float | None
    steps: int
    peak_memory_bytes: int | None
    hardware: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A run of the table.

    Attributes:
        name: The run.
        seeds: Its results, seed by seed, of the trainings that are done.
        baseline: Name of the run that its gains are counted from.
        paper: The paper's mean IoU in percent.
        start_from: Name of the run whose network it starts from.
        bound: Whether it is what adaptation has to beat (`source-only`), or could reach with labels (`oracle`).
    """

    name: str
    seeds: tuple[SeedResult, ...] = ()
    baseline: str | None = None
    paper: float | None = None
    start_from: str | None = None
    bound: Literal["source-only", "oracle"] | None = None

    @property
    def mean_iou(self) -> list[float]:
        """Mean IoU by seed, in percent."""
        return [result.mean_iou for result in self.seeds]

    @property
    def gains(self) -> list[float]:
        """Gains over the baseline by seed, in percent, of the seeds that both were trained with."""
        return [result.gain for result in self.seeds if result.gain is not None]

    @property
    def per_class_iou(self) -> dict[str, float | None]:
        """Mean over the seeds by class, in percent; None for a class that never occurs."""

        def mean(name: str) -> float | None:
            values = [value for result in self.seeds if (value := result.per_class_iou[name]) is not None]
            return statistics.fmean(values) if values else None

        return {name: mean(name) for name in (self.seeds[0].per_class_iou if self.seeds else ())}

    @property
    def seconds_per_step(self) -> float | None:
        """Median over the seeds."""
        return _median([result.seconds_per_step for result in self.seeds])

    @property
    def cost(self) -> float | None:
        """Seconds per step over the baseline's, median over the seeds."""
        return _median([result.cost for result in self.seeds])

    @property
    def peak_memory_bytes(self) -> int | None:
        """Largest over the seeds; None where it was not measured."""
        return max((result.peak_memory_bytes for result in self.seeds if result.peak_memory_bytes), default=None)


def collect(suite: Suite, trainings: Sequence[Training]) -> list[Line]:
    """Return a line for every shown run, of the trainings that are done and were evaluated."""
    results: dict[str, dict[int, dict[str, Any]]] = {run.name: {} for run in suite.runs}
    for training in trainings:
        found = training.results
        if found is not None and found.get("mean_iou") is not None:
            results[training.run.name][training.seed] = found
    return [_line(suite, run, results) for run in suite.runs if run.shown]


def _line(suite: Suite, run: SuiteRun, results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Line:
    base = results[run.baseline] if run.baseline is not None else {}
    return Line(
        name=run.name,
        seeds=tuple(_seed_result(run, seed, own, base.get(seed)) for seed, own in sorted(results[run.name].items())),
        baseline=run.baseline,
        paper=run.paper,
        start_from=run.start_from,
        bound="oracle" if run.oracle else "source-only" if suite.is_source_only(run) else None,
    )


def _seed_result(run: SuiteRun, seed: int, own: Mapping[str, Any], base: Mapping[str, Any] | None) -> SeedResult:
    arguments = public_results(own)["arguments"]
    if run.start_from is not None:
        del arguments["model_name_or_path"]  # a folder beside this one, which the line calls `start_from`
    seconds = own["seconds_per_step"] or None  # 0: resumed after its last step
    base_seconds = None if base is None else base["seconds_per_step"]
    return SeedResult(
        seed=seed,
        mean_iou=100 * own["mean_iou"],
        per_class_iou={name: None if iou is None else 100 * iou for name, iou in own["per_class_iou"].items()},
        gain=None if base is None else 100 * (own["mean_iou"] - base["mean_iou"]),
        seconds_per_step=seconds,
        cost=seconds / base_seconds if seconds and base_seconds else None,
        steps=own["steps"],
        peak_memory_bytes=own.get("peak_memory_bytes"),
        hardware=own["hardware"],
        arguments=arguments,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
