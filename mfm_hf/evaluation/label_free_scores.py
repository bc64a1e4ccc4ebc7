"""Scores of a network on a target domain that need none of its labels.

None of them is the accuracy: a network that calls everything road is as sure of itself, as stable and as much of its
teacher's opinion as can be. docs/model_selection.md shows how far they can be followed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel

from mfm_hf.data.domain import BadExampleError, Domain, Example, Row
from mfm_hf.data.subset import evenly_spaced
from mfm_hf.evaluation.inference import batches, decode_ahead, eval_mode, predict_logits


class LabelFreeScores:
    """Measures a student, and its teacher where there is one, on the same images of a target again and again.

    All scores are shares of 0 to 1, of the pixels at the stride of the logits:

    - `prediction_entropy`: mean entropy of the student's probabilities, divided by that of a uniform guess
      (Vu et al., ADVENT, CVPR 2019, Eq. 2).
    - `teacher_agreement`: pixels that student and teacher give the same class, both in eval mode.
    - `prediction_stability`: pixels that the student gives the class that it gave them at the measurement before.
      There is none at the first.

    Labels are not looked at, and a domain that was opened as a target has none. An image that cannot be read is left
    out, as in training.

    Args:
        domain: The target.
        num_images: How many of its images to look at, spread evenly over it.
        batch_size: Images per forward pass.
        num_workers: Threads that decode images ahead of the networks.
        accelerator: Where several processes measure together. Each takes its share of the images.
    """

    def __init__(
        self,
        domain: Domain,
        num_images: int,
        *,
        batch_size: int = 1,
        num_workers: int = 2,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.domain = evenly_spaced(domain, num_images)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.accelerator = accelerator
        # By name of the image, the class of each pixel, (h, w) on the CPU: 13 MB for 100 images of Cityscapes.
        self._predictions: dict[str, Tensor] = {}

    @torch.inference_mode()
    def measure(self, student: PreTrainedModel, teacher: PreTrainedModel | None = None) -> dict[str, float]:
        """Return the scores by name; one that has no finite value is left out.

        Args:
            student: An inference network. Its modes and statistics are left as they were.
            teacher: A network of the same shape, likewise; None if there is none.
        """
        totals: defaultdict[str, float] = defaultdict(float)
        predictions: dict[str, Tensor] = {}
        with eval_mode(student), nullcontext() if teacher is None else eval_mode(teacher):
            for examples in batches(self._examples(), self.batch_size):
                logits = predict_logits(student, examples)
                classes = logits.argmax(dim=1)
                totals["pixels"] += classes.numel()
                totals["entropy"] += _entropy(logits).sum().item()
                if teacher is not None:
                    same = classes == predict_logits(teacher, examples).argmax(dim=1)
                    totals["agreeing"] += int(same.sum())
                smallest = torch.uint8 if logits.shape[1] <= 256 else torch.int32
                stored = classes.to("cpu", smallest)
                predictions |= {example.name: one for example, one in zip(examples, stored, strict=True)}
        for name in predictions.keys() & self._predictions.keys():
            totals["compared"] += predictions[name].numel()
            totals["stable"] += int((predictions[name] == self._predictions[name]).sum())
        self._predictions = predictions
        return _scores(self._of_all_processes(totals), with_teacher=teacher is not None)

    def tensors(self) -> dict[str, Tensor]:
        """Return the predictions of the last measurement, which the next is compared with. Call it in every process."""
        if self.accelerator is None or self.accelerator.num_processes == 1:
            return dict(self._predictions)
        parts: list[dict[str, Tensor]] = gather_object([self._predictions])
        return {name: prediction for part in parts for name, prediction in part.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `tensors` was called."""
        self._predictions = dict(tensors)

    def _examples(self) -> Iterator[Example]:
        rank, num_processes = 0, 1
        if self.accelerator is not None:
            rank, num_processes = self.accelerator.process_index, self.accelerator.num_processes
        rows = islice(self.domain.rows, rank, None, num_processes)
        examples = decode_ahead(_Readable(self.domain), rows, self.num_workers)
        return (example for example in examples if example is not None)

    def _of_all_processes(self, totals: Mapping[str, float]) -> Mapping[str, float]:
        if self.accelerator is None or self.accelerator.num_processes == 1:
            return totals
        parts: list[dict[str, float]] = gather_object([dict(totals)])
        return {name: sum(part.get(name, 0.0) for part in parts) for name in {key for part in parts for key in part}}


@dataclass(frozen=True)
class _Readable:
    """Decodes a row of a domain, or returns None where that cannot be done."""

    domain: Domain

    def __call__(self, row: Row) -> Example | None:
        try:
            return self.domain.decode(row)
        except BadExampleError:
            return None


def _entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each pixel, (batch, h, w), as a share of that of the uniform distribution."""
    log_probabilities = torch.log_softmax(logits, dim=1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
    return entropy / math.log(max(2, logits.shape[1]))  # one class alone has no entropy


def _scores(totals: Mapping[str, float], with_teacher: bool) -> dict[str, float]:
    shares = {"prediction_entropy": ("entropy", "pixels"), "prediction_stability": ("stable", "compared")}
    if with_teacher:
        shares["teacher_agreement"] = ("agreeing", "pixels")
    scores = {name: totals.get(part, 0.0) / totals[whole] for name, (part, whole) in shares.items() if whole in totals}
    return {name: score for name, score in scores.items() if math.isfinite(score)}
