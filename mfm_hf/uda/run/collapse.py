"""A watch over classes that were learned and then lost, as 'train' is in some runs of the references."""

from __future__ import annotations

from collections.abc import Mapping

LEARNED = 0.1  # IoU from which a class counts as learned
LOST = 0.1  # share of its best IoU below which a learned class counts as lost


class CollapseWatch:
    """Remembers the best IoU of every class over the evaluations of a run."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def update(self, per_class_iou: Mapping[str, float | None]) -> list[str]:
        """Note an evaluation and return a line about each class that was learned and is lost now.

        Args:
            per_class_iou: IoU by class, 0 to 1; None where a class neither occurs nor is predicted.
        """
        lines = []
        for name, iou in per_class_iou.items():
            best = self.best.get(name, 0.0)
            if iou is not None and best >= LEARNED and iou < LOST * best:
                lines.append(
                    f"the class {name!r} has collapsed: IoU {iou:.3f} after {best:.3f}; runs of other seeds may keep it"
                )
            self.best[name] = max(best, iou or 0.0)
        return lines

    def state_dict(self) -> dict[str, float]:
        """Return the best IoU by class, which is all that later warnings depend on."""
        return dict(self.best)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go back to where `state_dict` was called.

        Raises:
            AttributeError, TypeError: If it is not such a state.
        """
        if not all(isinstance(iou, float) for iou in state.values()):
            raise TypeError("an IoU is no number")
        self.best = dict(state)
