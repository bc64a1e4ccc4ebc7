"""ImageNet feature distance: keep the student's features of things near those of the pretrained encoder.

DAFormer, section 3.3 (Hoyer et al., CVPR 2022); `calc_feat_dist` in `dacs.py` of lhoyer/MIC.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.global_statistics import BatchStatistics, count_true

# The classes whose features ImageNet, a collection of things, knows about.
THING_CLASSES = (
    "traffic light",
    "traffic sign",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)


class PretrainedFeatures:
    """The encoder as it was at the start, in eval mode.

    Args:
        student: The network at the start; it is copied, without its Rebuilder.
    """

    def __init__(self, student: DomainAdaptationModel) -> None:
        rebuilder, student.rebuilder = student.rebuilder, None
        self.model = copy.deepcopy(student).requires_grad_(False).eval()
        student.rebuilder = rebuilder

    @torch.no_grad()
    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Return the deepest features of normalised images (batch, 3, height, width)."""
        return self.model.encode_deepest(pixel_values)


def thing_ids(label2id: Mapping[str, int], names: Sequence[str]) -> list[int]:
    """Return the ids of the named classes, of those that exist."""
    return [label2id[name] for name in names if name in label2id]


def majority_labels(
    labels: Tensor, size: Sequence[int], num_labels: int, min_ratio: float, ignore_index: int
) -> Tensor:
    """Return the class that covers most of each cell, or the ignore index where none covers enough.

    Args:
        labels: int64 (batch, height, width).
        size: Rows and columns of cells.
        num_labels: Number of classes; what is ignored is one class more.
        min_ratio: Share of a cell that its class must cover.
        ignore_index: Label of the pixels without a class.

    Returns:
        int64 (batch, *size).
    """
    classes = torch.arange(num_labels + 1, device=labels.device).view(-1, 1, 1)
    labels = labels.masked_fill(labels == ignore_index, num_labels)
    shares = F.adaptive_avg_pool2d((labels.unsqueeze(1) == classes).float(), tuple(size))
    ratio, majority = shares.max(dim=1)
    return majority.masked_fill((ratio < min_ratio) | (majority == num_labels), ignore_index)


def feature_distance(
    features: Tensor, pretrained: Tensor, mask: Tensor, statistics: BatchStatistics = "process"
) -> Tensor:
    """Return the mean Euclidean distance at the masked positions; 0 where there are none.

    Args:
        features: The student's, (batch, channels, height, width).
        pretrained: The pretrained encoder's, likewise.
        mask: bool (batch, height, width).
        statistics: Whose positions are counted, as in `count_true`.
    """
    distance = torch.linalg.vector_norm(features.float() - pretrained.float(), dim=1)  # they may be of half precision
    return distance.masked_fill(~mask, 0.0).sum() / count_true(mask, statistics)
