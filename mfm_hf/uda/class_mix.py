"""ClassMix: paste the pixels of some classes of a source image onto a target image (Olsson et al., WACV 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Scope = Literal["batch", "image"]


def draw_classes(
    present: Sequence[Tensor], generator: torch.Generator, scope: Scope = "batch", left_out: int | None = None
) -> tuple[Tensor, ...]:
    """Draw half of the classes for every image, rounded up.

    Args:
        present: For each image the labels that its source image has, int64 (number,) in rising order, on the CPU.
        generator: Source of randomness.
        scope: Among which classes: those of the whole `batch`, as in the references, where an image may receive fewer
            than half of its own (`dacs_transforms.py` in lhoyer/DAFormer), or those of the `image` itself, as in the
            paper of DACS.
        left_out: A label that is never drawn. The references draw the ignore index like any class.

    Returns:
        For each image the drawn classes, int64 (number,).
    """
    whole = torch.cat(tuple(present)).unique()
    drawn = []
    for classes in present if scope == "image" else [whole] * len(present):
        if left_out is not None:
            classes = classes[classes != left_out]
        number = (len(classes) + 1) // 2
        drawn.append(classes[torch.randperm(len(classes), generator=generator)[:number]])
    return tuple(drawn)


def class_mask(labels: Tensor, classes: Sequence[Tensor]) -> Tensor:
    """Return where a pixel's label is among its image's classes: bool (batch, height, width).

    Args:
        labels: Source labels, int64 (batch, height, width).
        classes: For each image the classes that are pasted.
    """
    on_device = [chosen.to(labels.device, non_blocking=True) for chosen in classes]
    return torch.stack([torch.isin(label, chosen) for label, chosen in zip(labels, on_device, strict=True)])


def class_mix(mask: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return `source` where the mask is set and `target` elsewhere.

    Args:
        mask: bool (batch, height, width).
        source: (batch, height, width) or (batch, channels, height, width).
        target: As `source`.
    """
    return torch.where(mask if source.ndim == 3 else mask.unsqueeze(1), source, target)
