"""The source-only training that the model card compares an adaptation with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# In what the two trainings have to agree, and what it is called in messages.
_COMPARED = {
    "source": "source",
    "eval": "evaluation domain",
    "num_images": "number of images",
    "eval_classes": "classes of the mean",
    "model": "network",
}


def read_baseline(file: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of the source-only training that other results may be compared with.

    Args:
        file: Its `results.json`.
        results: The others; those that are not known yet are not compared.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `results.json` of a source-only training, without MFM and not picked by target labels,
            or something else was trained or measured there, so that a comparison would mislead.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}: give the results.json of a source-only training as the baseline")
    try:
        baseline = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}): give the results.json of a source-only training") from error
    if not isinstance(baseline, dict) or baseline.get("recipe") != "source_only" or baseline.get("mfm"):
        raise ValueError(f"{file} is not of a training with --recipe source_only and without --mfm: give one that is")
    if baseline.get("mean_iou") is None or baseline.get("picked_by_target_labels"):
        raise ValueError(f"{file} holds no mean IoU of a final network: give a baseline that was evaluated at its end")
    for key, title in _COMPARED.items():
        if key in results and baseline.get(key) != results[key]:
            raise ValueError(
                f"{file} cannot be the baseline: its {title} is {baseline.get(key)}, not {results[key]}; "
                "train or evaluate it in the same way"
            )
    return baseline
