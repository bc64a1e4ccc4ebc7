"""The table as a picture: a point per seed, a bar for the mean, a cross for the paper's number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mfm_hf.commands.comparison.table import Line


def draw(title: str, lines: Sequence[Line], file: Path) -> None:
    """Write the picture as a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.4 + 0.42 * len(lines)), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="target mean IoU in %")
    for row, line in enumerate(lines):
        if line.mean is not None:
            axes.plot([line.mean, line.mean], [row - 0.3, row + 0.3], color="#1f4e79", linewidth=3)
            axes.scatter(line.mean_iou, [row] * len(line.mean_iou), color="#6baed6", edgecolors="white", zorder=3)
        if line.paper is not None:
            axes.scatter([line.paper], [row], marker="x", color="#c0392b", zorder=3)
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    legend: list[tuple[str, dict[str, Any]]] = [
        ("mean", {"color": "#1f4e79", "linewidth": 3}),
        ("a seed", {"color": "#6baed6", "marker": "o", "ls": ""}),
    ]
    if any(line.paper is not None for line in lines):
        legend.append(("the paper", {"color": "#c0392b", "marker": "x", "ls": ""}))
    handles = [axes.plot([], [], label=label, **style)[0] for label, style in legend]
    axes.legend(handles=handles, loc="best", frameon=False, fontsize="small")
    figure.savefig(file, dpi=150)
