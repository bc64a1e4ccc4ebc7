import json

import pytest

from mfm_hf.uda.run.model_selection import GREATER_IS_BETTER, ModelSelection, checked_note

EVERY = tuple(GREATER_IS_BETTER)


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("teacher_agreement", [0.2, 0.5, 0.5, 0.1], 2),
        ("prediction_entropy", [0.2, 0.5, 0.1, 0.1], 3),
        ("prediction_stability", [None, 0.3, 0.9, 0.4], 3),
        (None, [0.3, 0.4, 0.2, 0.1], 2),
    ],
)
def test_the_first_of_the_best_is_kept(metric, values, best):
    selection = ModelSelection(metric, EVERY)
    name = metric or "mean_iou"
    found = [selection.update(step, {name: value}) for step, value in enumerate(values, 1)]
    assert max(step for step, is_best in enumerate(found, 1) if is_best) == best
    assert selection.best["step"] == best
    assert selection.best["value"] == values[best - 1]


@pytest.mark.parametrize("metric", [None, *EVERY])
def test_a_choice_by_target_labels_is_marked(metric):
    selection = ModelSelection(metric, EVERY)
    selection.update(5, dict.fromkeys(EVERY, 0.5))
    assert selection.best["picked_by_target_labels"] is (metric in (None, "mean_iou"))
    assert selection.best["mean_iou"] == 0.5


def test_a_score_that_is_not_measured_is_refused():
    with pytest.raises(ValueError, match="mean_iou is not measured in this run: choose one of prediction_entropy, or"):
        ModelSelection("mean_iou", ["prediction_entropy"])
    assert ModelSelection(None, []).update(1, {"mean_iou": None}) is False


def test_the_state_is_plain_json():
    selection, resumed = ModelSelection("teacher_agreement", EVERY), ModelSelection("teacher_agreement", EVERY)
    selection.update(3, {"teacher_agreement": 0.7})
    resumed.load_state_dict(json.loads(json.dumps(selection.state_dict())))
    assert resumed.best == selection.best
    with pytest.raises(ValueError, match="picked by teacher_agreement: resume with the same --metric_for_best_model"):
        ModelSelection("prediction_entropy", EVERY).load_state_dict(selection.state_dict())


@pytest.mark.parametrize("change", [{"value": "high"}, {"step": None}, {"metric": 3}, {"mean_iou": "0.5"}])
def test_a_note_that_is_none_is_refused(change):
    selection = ModelSelection(None, EVERY)
    selection.update(3, {"mean_iou": 0.5})
    assert checked_note(selection.best) == selection.best
    for wrong in (selection.best | change, {key: selection.best[key] for key in ("step", "value")}, "best", 3):
        with pytest.raises((KeyError, TypeError)):
            ModelSelection(None, EVERY).load_state_dict({"best": wrong})


def test_the_network_that_is_there_counts():
    selection = ModelSelection("teacher_agreement", EVERY)
    selection.update(3, {"teacher_agreement": 0.7})
    later = selection.best | {"step": 4, "value": 0.8}
    assert selection.go_on_with(later) is None
    assert selection.best == later
    assert "of step 4, is not there any more" in selection.go_on_with(None)
    assert selection.best is None
    assert selection.go_on_with({**later, "metric": "mean_iou"}) is None  # nothing was lost, nothing is taken over
    assert selection.best is None
