from __future__ import annotations

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.evaluation.class_sets import EVAL_CLASSES
from mfm_hf.evaluation.results_table import paper_row, score_table


def results(names: tuple[str, ...], eval_classes: list[str] | None = None) -> dict:
    """Classes of 10 %, 11 %, ...; the last does not occur."""
    ious = {name: 0.1 + 0.01 * index for index, name in enumerate(names)} | {names[-1]: None}
    return {"per_class_iou": ious, "mean_iou": 0.12345, "overall_accuracy": 0.5, "eval_classes": eval_classes}


def test_the_table_has_a_line_for_each_class() -> None:
    assert score_table(results(("road", "car", "sky"))).splitlines() == [
        "class           IoU in %",
        "road               10.00",
        "car                11.00",
        "sky                    -",
        "------------------------",
        "mean IoU           12.35  (of 2 of 3 classes)",
        "pixel accuracy     50.00",
    ]


def test_classes_that_the_mean_leaves_out_have_a_dash() -> None:
    lines = score_table(results(("road", "car", "sky"), eval_classes=["road", "sky"])).splitlines()
    assert lines[2] == "car                    -"
    assert lines[5].endswith("(of 1 of 2 classes)")


def test_the_papers_row_of_synthia() -> None:
    header, rule, row = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in paper_row(results(CITYSCAPES.names, list(EVAL_CLASSES["synthia16"]))).splitlines()
    )
    assert len(header) == len(rule) == len(row) == 20
    missing = [column for column, cell in zip(header, row, strict=True) if cell == "-"]
    assert missing == ["Terrain", "Truck", "Train", "Bike"]  # the last occurs nowhere here
    assert (row[0], row[-1]) == ("10.0", "12.3")


def test_other_classes_have_no_row_in_the_papers() -> None:
    assert paper_row(results(("road", "car", "sky"))) is None
