from __future__ import annotations

import pytest

from mfm_hf.data.classes import CITYSCAPES, class_set_from_names
from mfm_hf.evaluation.class_sets import resolve_eval_classes


def test_the_papers_class_sets():
    """By train id, as the comments of lhoyer/MIC and the SYNTHIA columns of the papers have them."""
    ids = {text: [CITYSCAPES.label2id[name] for name in resolve_eval_classes(text, CITYSCAPES)] for text in SETS}
    assert ids == SETS


SETS = {
    "cityscapes19": list(range(19)),
    "synthia16": [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18],
    "synthia13": [0, 1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18],
}


def test_a_list_of_names_comes_in_the_order_of_the_classes():
    classes = class_set_from_names(("road", "traffic light", "car"))
    assert resolve_eval_classes("car, road", classes) == ("road", "car")
    assert resolve_eval_classes("traffic light", classes) == ("traffic light",)


@pytest.mark.parametrize(("text", "missing"), [("synthia16", "sidewalk"), ("road,tram", "tram"), ("road,", "")])
def test_a_class_that_is_not_there_is_named(text: str, missing: str):
    with pytest.raises(
        ValueError, match=f"--eval_classes {text}: there is no class '{missing}' here; choose of road, "
    ):
        resolve_eval_classes(text, class_set_from_names(("road", "car")))
