"""Which of a run's evaluations was the best, by a score that a real adaptation has or by one that it has not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# Scores by which a network can be picked, and whether more of them is better.
GREATER_IS_BETTER = {
    "mean_iou": True,
    "source_mean_iou": True,
    "prediction_entropy": False,
    "teacher_agreement": True,
    "prediction_stability": True,
}
NEEDS_TARGET_LABELS = "mean_iou"


def checked_note(note: Any) -> dict[str, Any]:
    """Return what was read from a file as `ModelSelection.best`, if it is such a note.

    Raises:
        KeyError, TypeError: If it is none.
    """
    kinds = {"metric": str, "value": float, "step": int, "mean_iou": float | None, "picked_by_target_labels": bool}
    for name, kind in kinds.items():
        if not isinstance(note[name], kind):
            raise TypeError(f"{name} is no {kind}")
    return note


class ModelSelection:
    """Keeps the best evaluation of a run.

    Args:
        metric: The score that decides, a key of `GREATER_IS_BETTER`. None: the target's mean IoU, as a note alone.
        available: The scores that the run's evaluations will have.

    Attributes:
        best: None before the first evaluation that has the score, then a mapping that JSON can hold: `metric`,
            `value`, `step`, `mean_iou` of the same evaluation (None if the target has no labels to measure it), and
            `picked_by_target_labels`, which a real adaptation does not have.

    Raises:
        ValueError: If the evaluations will not have the score.
    """

    def __init__(self, metric: str | None, available: Collection[str]) -> None:
        if metric is not None and metric not in available:
            raise ValueError(
                f"--metric_for_best_model {metric} is not measured in this run: choose one of "
                f"{', '.join(name for name in GREATER_IS_BETTER if name in available) or 'none'}, or see --eval, "
                "--source_eval and --selection_images"
            )
        self.metric = NEEDS_TARGET_LABELS if metric is None else metric
        self.best: dict[str, Any] | None = None
        self._before: dict[str, Any] | None = None

    def update(self, step: int, scores: Mapping[str, Any]) -> bool:
        """Note an evaluation, and return whether it is the best so far. Of equals, the first stays the best."""
        value = scores.get(self.metric)
        if value is None:
            return False
        sign = 1 if GREATER_IS_BETTER[self.metric] else -1
        if self.best is not None and sign * value <= sign * self.best["value"]:
            return False
        self._before = self.best
        self.best = {
            "metric": self.metric,
            "value": value,
            "step": step,
            "mean_iou": scores.get("mean_iou"),
            "picked_by_target_labels": self.marks()["picked_by_target_labels"],
        }
        return True

    def take_back(self) -> None:
        """Return to the best before the last, whose network could not be kept."""
        self.best = self._before

    def marks(self) -> dict[str, Any]:
        """Return what the results of a network that was picked say of that."""
        return {"picked_by": self.metric, "picked_by_target_labels": self.metric == NEEDS_TARGET_LABELS}

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was called.

        Raises:
            KeyError, TypeError: If it is not such a state.
            ValueError: If it is of a run that picks by another score.
        """
        best = state["best"]
        if best is not None and checked_note(best)["metric"] != self.metric:
            raise ValueError(
                f"the checkpoint's best network was picked by {best['metric']}: resume with the same "
                "--metric_for_best_model"
            )
        self.best = best

    def go_on_with(self, exported: dict[str, Any] | None) -> str | None:
        """Hold, after `load_state_dict`, to the best network whose weights there are.

        Args:
            exported: What was noted as `best` of it; None if there is none, and the choice starts anew.

        Returns:
            A line that says so, where the choice starts anew.
        """
        before, self.best = self.best, None
        if exported is not None and exported["metric"] == self.metric:
            self.best = exported
        elif before is not None:
            return f"the best network so far, of step {before['step']}, is not there any more: the choice starts anew"
        return None
