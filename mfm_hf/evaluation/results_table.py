"""Scores as people read them: a table by class, and the row of a paper's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfm_hf.data.classes import CITYSCAPES

# The columns of the tables of DACS, DAFormer, HRDA, MIC and MFM, which is the order of the train ids.
_COLUMNS = (
    "Road", "S.walk", "Build.", "Wall", "Fence", "Pole", "Tr.Light", "Sign", "Veget.", "Terrain", "Sky", "Person",
    "Rider", "Car", "Truck", "Bus", "Train", "M.bike", "Bike",
)  # fmt: skip


def score_table(results: Mapping[str, Any]) -> str:
    """Return the IoU of every class, their mean and the pixel accuracy in percent, a line each.

    A class that does not occur, or that the mean leaves out, has a dash.

    Args:
        results: What `evaluate_model` returned.
    """
    ious = _averaged_ious(results)
    width = max(map(len, [*ious, "pixel accuracy"]))
    num_averaged, num_wanted = sum(iou is not None for iou in ious.values()), len(results["eval_classes"] or ious)
    which = f"of {num_averaged} classes" if num_averaged == num_wanted else f"of {num_averaged} of {num_wanted} classes"
    lines = [f"{'class':<{width}}  IoU in %"]
    lines += [f"{name:<{width}}  {percent(iou):>8}" for name, iou in ious.items()]
    lines += [
        "-" * (width + 10),
        f"{'mean IoU':<{width}}  {percent(results['mean_iou']):>8}  ({which})",
        f"{'pixel accuracy':<{width}}  {percent(results['overall_accuracy']):>8}",
    ]
    return "\n".join(lines)


def paper_row(results: Mapping[str, Any]) -> str | None:
    """Return the scores as the header and the row of the papers' tables, in Markdown and with one decimal.

    Args:
        results: What `evaluate_model` returned.

    Returns:
        None where the classes are not those of Cityscapes.
    """
    if tuple(results["per_class_iou"]) != CITYSCAPES.names:
        return None
    cells = [percent(iou, decimals=1) for iou in (*_averaged_ious(results).values(), results["mean_iou"])]
    rows = ([*_COLUMNS, "mIoU"], ["---:"] * len(cells), cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percent(share: float | None, decimals: int = 2) -> str:
    """Write a share in percent; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{decimals}f}"


def _averaged_ious(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the IoU by class, None for the classes that the mean leaves out."""
    averaged = results["eval_classes"]
    return {
        name: iou if averaged is None or name in averaged else None for name, iou in results["per_class_iou"].items()
    }
