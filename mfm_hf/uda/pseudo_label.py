"""Pseudo-labels: what the teacher says of the target, and how far it is trusted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class PseudoLabel(NamedTuple):
    """Class and weight of every pixel of a batch.

    Args:
        labels: int64 (batch, height, width).
        weights: float32 (batch, height, width), 0..1.
    """

    labels: Tensor
    weights: Tensor


def ignore_borders(pseudo: PseudoLabel, rows: tuple[int, int] = (0, 0), valid: Tensor | None = None) -> PseudoLabel:
    """Give border pixels the weight 0. They keep their label, and count in the loss's average.

    Args:
        pseudo: Labels and weights of the whole images.
        rows: Rows at the top and at the bottom of each crop (DAFormer: 15 and 120 of 512).
        valid: bool (batch, height, width), False at the margins of the whole image, wherever the crop lies (HRDA).
    """
    top, bottom = rows
    weights = pseudo.weights.clone()
    weights[:, :top] = 0
    weights[:, weights.shape[1] - bottom :] = 0
    return PseudoLabel(pseudo.labels, weights if valid is None else weights * valid)


def pseudo_label(logits: Tensor, size: tuple[int, int], threshold: float) -> PseudoLabel:
    """Label every pixel with the teacher's most probable class.

    All pixels of the batch get one weight: the share of them whose class has at least the threshold's probability
    (Tranheden et al., WACV 2021, Eq. 4; `dacs.py` in lhoyer/MIC).

    Args:
        logits: The teacher's, (batch, num_labels, h, w) at any stride.
        size: Height and width of the images.
        threshold: Probability from which a prediction counts as confident, 0..1.
    """
    logits = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    probabilities, labels = torch.softmax(logits, dim=1).max(dim=1)
    confident_share = (probabilities >= threshold).float().mean()
    return PseudoLabel(labels, confident_share.expand_as(probabilities))
