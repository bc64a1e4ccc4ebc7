"""Mean intersection over union, counted in a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

_DESCRIPTION = """
Intersection over union (IoU) of every class, its mean over the classes, and pixel accuracies. Only a confusion matrix
is kept, however many images are added.
"""

_CITATION = """
@article{everingham2010pascal,
  title={The Pascal Visual Object Classes (VOC) Challenge},
  author={Everingham, Mark and Van Gool, Luc and Williams, Christopher K. I. and Winn, John and Zisserman, Andrew},
  journal={International Journal of Computer Vision},
  volume={88},
  pages={303--338},
  year={2010}
}
"""

_INPUTS = """
Predictions and references are integer class ids (arrays, tensors or nested lists): (height, width) for `add`,
(batch, height, width) or a sequence of (height, width) maps for `add_batch` and `compute`. A reference may also hold
the ignore index; such pixels are not counted.
"""


class MeanIoU(evaluate.Metric):
    """Mean IoU as an `evaluate.Metric` that works offline and stores no images.

    The counts of all images are summed before any ratio is taken. A class that is neither labelled nor predicted has
    no IoU and is left out of the mean; a class that is predicted but never labelled has IoU 0. Both as in
    `mmseg/core/evaluation/metrics.py` of lhoyer/MIC, by which the papers' numbers were measured.

    Tensors are counted on the device where the predictions are. On an accelerator nothing waits for the result of a
    batch: ids out of range are then reported by `reduce` and `compute`, otherwise at once.

    Args:
        id2label: Name of every class id, 0 .. number of classes - 1. The names must differ.
        ignore_index: Reference value of the pixels that are not counted.
        mean_over: Names of the classes that the means are taken over; the pixels of the others still count against
            whatever is predicted there. Default: all.

    Raises:
        ValueError: If the ids of `id2label` are not 0, 1, 2, ..., two classes share a name, or `mean_over` names none
            of them.
    """

    def __init__(
        self, id2label: Mapping[int, str], ignore_index: int = 255, mean_over: Sequence[str] | None = None
    ) -> None:
        if not id2label or sorted(id2label) != list(range(len(id2label))):
            raise ValueError(f"id2label needs the ids 0, 1, 2, ... without gaps, but has {sorted(id2label)}")
        self.label_names = [id2label[index] for index in range(len(id2label))]
        if len(set(self.label_names)) != len(self.label_names):
            raise ValueError(f"two classes share a name, so scores by name are ambiguous: {self.label_names}")
        self.ignore_index = ignore_index
        self.mean_over = list(self.label_names if mean_over is None else mean_over)
        if unknown := [name for name in self.mean_over if name not in self.label_names]:
            raise ValueError(f"there is no class {unknown[0]!r} to take the mean over: {self.label_names}")
        super().__init__()
        self.info.module_name = "mean_iou"  # `evaluate` makes "mean_io_u" of the class name
        self._reset()

    def _info(self) -> evaluate.MetricInfo:
        class_map = datasets.Sequence(datasets.Sequence(datasets.Value("int64")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": class_map, "references": class_map}),
        )

    def _build_data_dir(self) -> str:
        # `evaluate` would create a folder for cache files here, which fails on a read-only home; this metric has none.
        return self._data_dir_root

    def _reset(self) -> None:
        num_labels = len(self.label_names)
        self._counts = torch.zeros(num_labels * num_labels, dtype=torch.int64)
        self._id_range = torch.zeros(2, 2, dtype=torch.int64)
        self._num_images = 0

    def __len__(self) -> int:
        """Return the number of images added since the last `compute`."""
        return self._num_images

    @property
    def confusion_matrix(self) -> Tensor:
        """Pixels counted so far: int64 (num_labels, num_labels) on the CPU, rows: reference, columns: prediction."""
        num_labels = len(self.label_names)
        return self._counts.cpu().reshape(num_labels, num_labels)

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """Count one image.

        Raises:
            ValueError: If the shapes differ, the ids are not integers, or an id is out of range.
        """
        prediction, reference = _to_tensor(prediction), _to_tensor(reference)
        self._count(prediction[None], reference[None])

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Count several images. A sequence may hold images of different sizes.

        Raises:
            ValueError: If numbers or shapes differ, the ids are not integers, or an id is out of range.
        """
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions, but {len(references)} references")
        if isinstance(predictions, (Tensor, np.ndarray)) and isinstance(references, (Tensor, np.ndarray)):
            self._count(_to_tensor(predictions), _to_tensor(references))
            return
        for prediction, reference in zip(predictions, references, strict=True):
            self.add(prediction=prediction, reference=reference)

    def reduce(self, accelerator: Accelerator) -> None:
        """Sum the counts of all processes. Every process calls it once, before `compute`; all hold the sum after it.

        Raises:
            ValueError: If this process has met an id out of range.
        """
        self._check_ids(self._id_range)
        num_images = torch.tensor(self._num_images, device=accelerator.device)
        self._counts = accelerator.reduce(self._counts.to(accelerator.device), reduction="sum")
        self._num_images = int(accelerator.reduce(num_images, reduction="sum"))

    def compute(self, *, predictions: Any = None, references: Any = None) -> dict[str, Any]:
        """Return the scores of all images added, these included, and start afresh.

        Returns:
            `mean_iou`, `mean_accuracy` (the mean recall of the classes): floats in 0 .. 1, None where none of the
            classes to take the mean over occurs. `overall_accuracy`: the share of all pixels that are right.
            `per_class_iou`, `per_class_accuracy`: by label name, `None` where the class does not occur. Plain Python
            values, ready for JSON.

        Raises:
            ValueError: If no pixel was counted, or an id was out of range.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        matrix, id_range, num_images = self.confusion_matrix, self._id_range, len(self)
        self._reset()
        self._check_ids(id_range)
        if not matrix.any():
            raise ValueError(
                f"no pixel to score in {num_images} images: add images whose labels are not all {self.ignore_index}"
            )
        return _scores(matrix.double(), self.label_names, self.mean_over)

    def _count(self, predictions: Tensor, references: Tensor) -> None:
        """Add (batch, height, width) maps to the counts, without waiting for the device."""
        if predictions.shape != references.shape:
            raise ValueError(
                f"a prediction of shape {tuple(predictions.shape[1:])} cannot be compared with "
                f"a reference of shape {tuple(references.shape[1:])}"
            )
        if predictions.numel() == 0:
            return
        references = references.to(predictions.device, non_blocking=True)
        counted = references != self.ignore_index
        references = torch.where(counted, references, 0)
        id_range = _id_range(predictions, references)
        if id_range.device.type == "cpu":
            self._check_ids(id_range)
        self._id_range = _widen(self._id_range.to(id_range.device), id_range)

        # `torch.bincount` and boolean masks wait for the device; adding 0 or 1 at a bounded index does not.
        num_labels = len(self.label_names)
        index = (references * num_labels + predictions).clamp(0, num_labels * num_labels - 1)
        counts = torch.zeros(num_labels * num_labels, dtype=torch.int64, device=predictions.device)
        counts.index_add_(0, index.flatten(), counted.flatten().long())
        # Out of place, so that images may be added inside and outside of `torch.inference_mode` in turns.
        self._counts = self._counts.to(predictions.device) + counts
        self._num_images += len(predictions)

    def _check_ids(self, id_range: Tensor) -> None:
        num_labels = len(self.label_names)
        classes = f"one of the {num_labels} classes 0 .. {num_labels - 1}"
        for prediction, reference in id_range.tolist():
            if not 0 <= prediction < num_labels:
                raise ValueError(f"prediction {prediction} is not {classes}")
            if not 0 <= reference < num_labels:
                raise ValueError(f"reference {reference} is neither {classes} nor the ignore index {self.ignore_index}")


def _to_tensor(class_map: Any) -> Tensor:
    """Return ids as an int64 tensor, on the device where they are."""
    if not isinstance(class_map, Tensor):
        class_map = torch.as_tensor(np.array(class_map))
    if class_map.is_floating_point() or class_map.is_complex():
        raise ValueError(f"class ids are integers, but got {class_map.dtype}: take the argmax of the logits first")
    return class_map.long()


def _id_range(predictions: Tensor, references: Tensor) -> Tensor:
    """Return the lowest and the highest ids: int64 (2, 2), columns: prediction, reference."""
    lowest = torch.stack([predictions.amin(), references.amin()])
    highest = torch.stack([predictions.amax(), references.amax()])
    return torch.stack([lowest, highest])


def _widen(id_range: Tensor, other: Tensor) -> Tensor:
    """Return the range that holds both ranges."""
    return torch.stack([torch.minimum(id_range[0], other[0]), torch.maximum(id_range[1], other[1])])


def _scores(matrix: Tensor, names: Sequence[str], mean_over: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a confusion matrix of doubles, rows: reference, columns: prediction."""
    correct, labelled, predicted = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
    iou = correct / (labelled + predicted - correct)  # 0 / 0 = nan: the class does not occur
    accuracy = correct / labelled
    averaged = [names.index(name) for name in mean_over]
    return {
        "mean_iou": _mean(iou[averaged]),
        "mean_accuracy": _mean(accuracy[averaged]),
        "overall_accuracy": (correct.sum() / matrix.sum()).item(),
        "per_class_iou": _by_name(names, iou.tolist()),
        "per_class_accuracy": _by_name(names, accuracy.tolist()),
    }


def _mean(shares: Tensor) -> float | None:
    mean = shares.nanmean().item()
    return None if np.isnan(mean) else mean


def _by_name(names: Iterable[str], values: Iterable[float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in zip(names, values, strict=True)}
