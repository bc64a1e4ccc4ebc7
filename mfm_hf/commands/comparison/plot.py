"""The table as a picture: mean IoU between its two bounds, and beside it what each run gains over its baseline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from mfm_hf.commands.comparison.confidence_interval import confidence_interval
from mfm_hf.commands.comparison.results import Line

_BAR = {"color": "#1f4e79", "linewidth": 3}
_SEED = {"color": "#6baed6", "marker": "o", "linestyle": "", "markeredgecolor": "white", "markersize": 7}
_PAPER = {"color": "#c0392b", "marker": "x", "linestyle": ""}
_INTERVAL = {"color": "#1f4e79", "linewidth": 1}
_BOUND_COLORS = {"source-only": "#7f7f7f", "oracle": "#2e8b57"}


def draw(title: str, lines: Sequence[Line], file: Path) -> None:
    """Write the picture as a PNG.

    On the left a point per seed, a bar for the mean, a cross for the paper's number, and vertical lines for the
    source-only and the oracle runs. On the right the gains in the same way, from three seeds on with the 95 % interval
    of their mean; that of two is more than six times as wide as they lie apart to either side, and stands in the table.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.8 + 0.36 * len(lines)), layout="constrained")
    figure.suptitle(title)
    shares, gains = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for row, line in enumerate(lines):
        _draw_values(shares, row, line.mean_iou)
        if line.paper is not None:
            shares.plot([line.paper], [row], zorder=3, **_PAPER)
        if line.bound != "oracle":  # far more than any method's, which would be too small to see beside it
            _draw_values(gains, row, line.gains)
            if len(line.gains) > 2:
                gains.plot(confidence_interval(line.gains), [row, row], **_INTERVAL)
    gains.axvline(0, color="black", linewidth=1)
    shares.set_yticks(range(len(lines)), [line.name for line in lines])
    shares.invert_yaxis()
    shares.set_xlabel("target mean IoU in %")
    gains.set_xlabel("gain over the baseline, in points")
    for axes in (shares, gains):
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [*_key(shares, lines), *_draw_bounds(shares, lines)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    figure.savefig(file, dpi=150)


def _draw_values(axes: Any, row: int, values: Sequence[float]) -> None:
    if values:
        mean = statistics.fmean(values)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], **_BAR)
        axes.plot(values, [row] * len(values), zorder=3, **_SEED)


def _draw_bounds(axes: Any, lines: Sequence[Line]) -> list[Any]:
    """Draw and return a vertical line per bound; several of a kind, as for two networks, differ by their dashes."""
    drawn = []
    for kind, color in _BOUND_COLORS.items():
        bounds = [line for line in lines if line.bound == kind and line.seeds]
        for line, dashes in zip(bounds, cycle(("--", ":", "-.")), strict=False):
            style = {"color": color, "linestyle": dashes, "zorder": 0, "label": line.name}
            drawn.append(axes.axvline(statistics.fmean(line.mean_iou), **style))
    return drawn


def _key(axes: Any, lines: Sequence[Line]) -> list[Any]:
    """Return what the legend shows of the marks in both panels."""
    marks: list[tuple[str, dict[str, Any]]] = [("mean", _BAR), ("a seed", _SEED)]
    if any(line.paper is not None for line in lines):
        marks.append(("the paper", _PAPER))
    if any(len(line.gains) > 2 for line in lines):
        marks.append(("95 % interval of the mean gain", _INTERVAL))
    return [axes.plot([], [], label=label, **style)[0] for label, style in marks]
