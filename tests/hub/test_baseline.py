import json
from pathlib import Path
from typing import Any

import pytest

from mfm_hf.hub.baseline import read_baseline

BASELINE = {
    "recipe": "source_only",
    "mfm": False,
    "mean_iou": 0.4,
    "source": "game",
    "eval": "real (validation)",
    "num_images": 500,
    "eval_classes": None,
    "model": "SegformerForSemanticSegmentation",
}
RESULTS = BASELINE | {"recipe": "dacs", "mfm": True, "mean_iou": 0.5}


def test_same_setting_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(BASELINE))
    assert read_baseline(file, RESULTS) == BASELINE
    assert read_baseline(file, {"source": "game"}) == BASELINE  # before the training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "dacs"}, "is not of a training with --recipe source_only and without --mfm"),
        ({"mfm": True}, "is not of a training with --recipe source_only and without --mfm"),
        ({"mean_iou": None}, "holds no mean IoU of a final network"),
        ({"picked_by_target_labels": True}, "holds no mean IoU of a final network"),
        ({"eval": "real (test)"}, r"evaluation domain is real \(test\), not real \(validation\)"),
        ({"num_images": 2}, "number of images is 2, not 500"),
        ({"source": "city"}, "source is city, not game"),
        ({"eval_classes": ["road"]}, "classes of the mean"),
        ({"model": "Other"}, "network is Other"),
    ],
)
def test_what_would_mislead_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(BASELINE | changes))
    with pytest.raises(ValueError, match=message):
        read_baseline(file, RESULTS)


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere\.json"):
        read_baseline(tmp_path / "nowhere.json", RESULTS)
    for content in ("{", "[]", "3"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match="source"):
            read_baseline(tmp_path / "bad.json", RESULTS)
