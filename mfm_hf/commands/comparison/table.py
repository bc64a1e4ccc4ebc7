"""What the trainings of a suite came to: one line per run, with mean and standard deviation over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mfm_hf.commands.comparison.suite import Suite, SuiteRun
from mfm_hf.commands.comparison.trainings import Training


@dataclass(frozen=True)
class Line:
    """The results of a run over its seeds. Shares of mean IoU are in percent.

    Attributes:
        name: The run.
        seeds: The seeds that are done.
        mean_iou: By seed.
        per_class_iou: Mean over the seeds, by class; None for a class that never occurs.
        gains: By seed, the mean IoU above the baseline's with the same seed.
        baseline: Name of the baseline.
        paper: The paper's mean IoU.
        seconds_per_step: Median over the seeds.
        peak_memory_bytes: Largest over the seeds; None where it was not measured.
    """

    name: str
    seeds: tuple[int, ...]
    mean_iou: tuple[float, ...]
    per_class_iou: Mapping[str, float | None]
    gains: tuple[float, ...]
    baseline: str | None
    paper: float | None
    seconds_per_step: float | None
    peak_memory_bytes: int | None

    @property
    def mean(self) -> float | None:
        """Mean of the mean IoU over the seeds."""
        return statistics.fmean(self.mean_iou) if self.mean_iou else None


def collect(suite: Suite, trainings: Sequence[Training]) -> list[Line]:
    """Return a line for every shown run, of the trainings that are done."""
    results: dict[str, dict[int, dict[str, Any]]] = {run.name: {} for run in suite.runs}
    for training in trainings:
        found = training.results
        if found is not None and found.get("mean_iou") is not None:
            results[training.run.name][training.seed] = found
    return [_line(run, results) for run in suite.runs if run.shown]


def _line(run: SuiteRun, results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Line:
    own = results[run.name]
    base = results[run.baseline] if run.baseline is not None else {}
    memory = [result["peak_memory_bytes"] for result in own.values() if result.get("peak_memory_bytes")]
    return Line(
        name=run.name,
        seeds=tuple(own),
        mean_iou=tuple(100 * result["mean_iou"] for result in own.values()),
        per_class_iou=_mean_by_class([result["per_class_iou"] for result in own.values()]),
        gains=tuple(100 * (own[seed]["mean_iou"] - base[seed]["mean_iou"]) for seed in own if seed in base),
        baseline=run.baseline,
        paper=run.paper,
        seconds_per_step=statistics.median(result["seconds_per_step"] for result in own.values()) if own else None,
        peak_memory_bytes=max(memory) if memory else None,
    )


def _mean_by_class(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    def mean(name: str) -> float | None:
        values = [value for score in scores if (value := score[name]) is not None]
        return 100 * statistics.fmean(values) if values else None

    return {name: mean(name) for name in (scores[0] if scores else ())}


def as_markdown(suite: Suite, lines: Sequence[Line]) -> str:
    """Write the table, and below it the IoU of every class, in Markdown."""
    paper = any(line.paper is not None for line in lines)
    head = ["run", "seeds", "mIoU", "gain", *(["paper"] if paper else []), "s/step", "memory"]
    body = [
        [
            line.name,
            str(len(line.seeds)),
            spread(line.mean_iou),
            "" if not line.gains else f"{spread(line.gains, sign=True)} over {line.baseline}",
            *([_number(line.paper)] if paper else []),
            "-" if line.seconds_per_step is None else f"{line.seconds_per_step:.3g}",
            "-" if line.peak_memory_bytes is None else f"{line.peak_memory_bytes / 2**30:.2f} GiB",
        ]
        for line in lines
    ]
    classes = next((list(line.per_class_iou) for line in lines if line.per_class_iou), [])
    parts = [f"# {suite.title}", _rows(head, body)]
    if paper:
        parts.insert(1, f"Column `paper`: {suite.where}. All else was measured here. Mean and standard deviation.")
    if classes:
        scores = [[line.name, *(_number(line.per_class_iou.get(name)) for name in classes)] for line in lines]
        parts.append(_rows(["run", *classes], scores))
    return "\n\n".join(parts) + "\n"


def as_json(suite: Suite, lines: Sequence[Line]) -> dict[str, Any]:
    """Return the table as JSON holds it, every seed by itself."""
    return {"title": suite.title, "paper": suite.where or None, "runs": [asdict(line) for line in lines]}


def spread(values: Sequence[float], sign: bool = False) -> str:
    """Write mean and standard deviation (of a sample, n - 1); without the latter for one value."""
    if not values:
        return "-"
    mean = format(statistics.fmean(values), "+.1f" if sign else ".1f")
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *map(list, body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
