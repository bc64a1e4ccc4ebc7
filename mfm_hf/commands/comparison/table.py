"""A suite's results as a table in Markdown, and as JSON from which the table can be made again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mfm_hf.commands.comparison.confidence_interval import confidence_interval
from mfm_hf.commands.comparison.results import Line
from mfm_hf.commands.comparison.suite import Suite

_CAPTION = (
    "mIoU in percent and gain in points, as mean ± standard deviation over the seeds (n - 1). A gain is counted from "
    "the baseline's result with the same seed; beside it stands the 95 % interval of its mean (Student's t). Cost: "
    "seconds per step over those of the baseline."
)


def as_markdown(suite: Suite, lines: Sequence[Line]) -> str:
    """Write the table, and below it the IoU of every class, in Markdown."""
    has_paper = any(line.paper is not None for line in lines)
    head = ["run", "seeds", "mIoU", "gain", "95 % interval", *(["paper"] if has_paper else [])]
    head += ["s/step", "cost", "memory"]
    body = [
        [
            line.name,
            str(len(line.seeds)),
            spread(line.mean_iou),
            _gain(line),
            _interval(line.gains),
            *([_number(line.paper)] if has_paper else []),
            _number(line.seconds_per_step, ".3g"),
            _number(line.cost, ".2f"),
            "-" if line.peak_memory_bytes is None else f"{line.peak_memory_bytes / 2**30:.2f} GiB",
        ]
        for line in lines
    ]
    caption = _CAPTION + (f" Column `paper`: {suite.where}; all else was measured here." if has_paper else "")
    parts = [f"# {suite.title}", caption, _rows(head, body)]
    classes = next((list(line.per_class_iou) for line in lines if line.seeds), [])
    if classes:
        scores = [[line.name, *map(_number, line.per_class_iou.values())] for line in lines if line.seeds]
        parts += ["IoU of every class in percent, mean over the seeds:", _rows(["run", *classes], scores)]
    return "\n\n".join(parts) + "\n"


def as_json(suite: Suite, lines: Sequence[Line]) -> dict[str, Any]:
    """Return the table as JSON holds it, every seed by itself. All shares are in percent."""
    return {"title": suite.title, "paper": suite.where or None, "runs": [_run_as_json(line) for line in lines]}


def _run_as_json(line: Line) -> dict[str, Any]:
    summary = {
        "mean_iou": _summary(line.mean_iou),
        "gain": _summary(line.gains) | {"interval_95": confidence_interval(line.gains)},
        "cost": line.cost,
    }
    return {"name": line.name, **summary, **asdict(line)}


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {
        "seeds": len(values),
        "mean": statistics.fmean(values) if values else None,
        "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
    }


def spread(values: Sequence[float], sign: bool = False) -> str:
    """Write mean and standard deviation (of a sample, n - 1); without the latter for one value."""
    if not values:
        return "-"
    mean = statistics.fmean(values)
    text = _signed(mean) if sign else _number(mean)
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.1f}"


def _gain(line: Line) -> str:
    if not line.gains:
        return "-"
    pairs = "" if len(line.gains) == len(line.seeds) else f" (seeds: {len(line.gains)})"
    return f"{spread(line.gains, sign=True)} over {line.baseline}{pairs}"


def _interval(gains: Sequence[float]) -> str:
    interval = confidence_interval(gains)
    return "-" if interval is None else " to ".join(map(_signed, interval))


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def _signed(value: float) -> str:
    return format(round(value, 1) + 0.0, "+.1f")  # adding 0 takes the sign off a zero


def _rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *map(list, body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
