"""What is measured of a student while a run goes on, with the target's labels and without them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from mfm_hf.data.domain import Domain
from mfm_hf.data.subset import evenly_spaced
from mfm_hf.evaluation.class_sets import resolve_eval_classes
from mfm_hf.evaluation.evaluator import evaluate_model
from mfm_hf.evaluation.label_free_scores import LabelFreeScores
from mfm_hf.uda.run.collapse import CollapseWatch
from mfm_hf.uda.run.model_selection import GREATER_IS_BETTER, ModelSelection
from mfm_hf.uda.training_args import UdaTrainingArguments

LOGGED = (*GREATER_IS_BETTER, "overall_accuracy")


class Evaluations:
    """Measures, remembers what it has measured, and draws conclusions: the best network, a class that collapsed.

    Args:
        args: Which measurements, on how many images.
        accelerator: The processes that measure together.
        eval_domain: Labelled images of the target; None to measure nothing on them.
        target: The target, for scores that need no labels; None to leave them out.
        source_eval_domain: Labelled images of the source that it is not trained on; None to leave them out.
        has_teacher: Whether there is a teacher to compare the student with.

    Attributes:
        history: By evaluation, `step` and the scores that are one number each.

    Raises:
        ValueError: If the best network is to be picked by a score that is not measured, or a class to take the mean
            over does not exist.
    """

    def __init__(
        self,
        args: UdaTrainingArguments,
        accelerator: Accelerator,
        eval_domain: Domain | None,
        target: Domain | None,
        source_eval_domain: Domain | None,
        has_teacher: bool,
    ) -> None:
        self.accelerator = accelerator
        self.batch_size = args.per_device_eval_batch_size
        self.eval_domain = eval_domain
        self.eval_classes = None
        labelled = eval_domain or source_eval_domain
        if args.eval_classes is not None and labelled is not None:
            self.eval_classes = resolve_eval_classes(args.eval_classes, labelled.classes)
        self.source_eval_domain = self.label_free = None
        if args.selection_images and source_eval_domain is not None:
            self.source_eval_domain = evenly_spaced(source_eval_domain, args.selection_images)
        if args.selection_images and target is not None:
            self.label_free = LabelFreeScores(
                target, args.selection_images, batch_size=self.batch_size, accelerator=accelerator
            )
        self.selection = ModelSelection(args.metric_for_best_model, self._available(has_teacher))
        self.collapse_watch = CollapseWatch()
        self.history: list[dict[str, Any]] = []

    def _available(self, has_teacher: bool) -> list[str]:
        names = ["mean_iou"] if self.eval_domain is not None else []
        names += ["source_mean_iou"] if self.source_eval_domain is not None else []
        if self.label_free is not None:
            names += ["prediction_entropy", "prediction_stability"] + ["teacher_agreement"] * has_teacher
        return names

    def __bool__(self) -> bool:
        """Whether there is anything to measure."""
        return any(part is not None for part in (self.eval_domain, self.source_eval_domain, self.label_free))

    def measure(self, student: PreTrainedModel, teacher: PreTrainedModel | None) -> dict[str, Any]:
        """Return all scores: those of `evaluate_model` on the target, and the others as `LabelFreeScores` names them.

        Args:
            student: As it will be published. Its modes and statistics are left as they were, and the teacher's.
            teacher: None if there is none.
        """
        scores: dict[str, Any] = {"mean_iou": None, "per_class_iou": None}
        if self.eval_domain is not None:
            scores = self._on_labels(student, self.eval_domain)
        start = time.perf_counter()
        if self.source_eval_domain is not None:
            scores["source_mean_iou"] = self._on_labels(student, self.source_eval_domain)["mean_iou"]
        if self.label_free is not None:
            scores |= self.label_free.measure(student, teacher)
        scores["selection_seconds"] = time.perf_counter() - start
        return scores

    def note(self, step: int, scores: Mapping[str, Any]) -> bool:
        """Remember an evaluation, and return whether it is the best so far."""
        numbers = {name: scores[name] for name in LOGGED if scores.get(name) is not None}
        self.history.append({"step": step, **numbers})
        return self.selection.update(step, scores)

    def collapsed_classes(self, scores: Mapping[str, Any]) -> list[str]:
        """Return a line about each class that was learned and is lost in this evaluation, where labels show it."""
        return self.collapse_watch.update(scores["per_class_iou"] or {})

    def state_dict(self) -> dict[str, Any]:
        """Return, as JSON can hold it, all that later evaluations depend on besides `tensors`."""
        return {
            "selection": self.selection.state_dict(),
            "collapse_watch": self.collapse_watch.state_dict(),
            "history": list(self.history),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was called.

        Raises:
            ValueError: If it is not such a state, or of a run that picks by another score.
        """
        try:
            self.selection.load_state_dict(state["selection"])
            self.collapse_watch.load_state_dict(state["collapse_watch"])
            history = state["history"]
            if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
                raise TypeError("the history is no list of mappings")
            self.history = list(history)
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                "the checkpoint holds no usable state of the evaluations: use another checkpoint"
            ) from None

    def tensors(self) -> dict[str, Tensor]:
        """Return the predictions that the next evaluation is compared with. Call it in every process."""
        return {} if self.label_free is None else self.label_free.tensors()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `tensors` was called."""
        if self.label_free is not None:
            self.label_free.load_tensors(tensors)

    def _on_labels(self, student: PreTrainedModel, domain: Domain) -> dict[str, Any]:
        return evaluate_model(
            student,
            domain,
            batch_size=self.batch_size,
            accelerator=self.accelerator,
            eval_classes=self.eval_classes,
        )
