"""ClassMix: paste the pixels of some classes of a source image onto a target image (Olsson et al., WACV 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_classes(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw half of the classes for every image, rounded up.

    As in the references the choice is among the classes of the whole batch, so that an image may receive fewer than
    half of its own, and the ignore index is a class like any other (`dacs_transforms.py` in lhoyer/DAFormer).

    Args:
        labels: Source labels, int64 (batch, height, width), on the CPU.
        generator: Source of randomness.

    Returns:
        For each image the drawn classes, int64 (number,).
    """
    classes = labels.unique()
    number = (len(classes) + 1) // 2
    return tuple(classes[torch.randperm(len(classes), generator=generator)[:number]] for _ in labels)


def class_mask(labels: Tensor, classes: Sequence[Tensor]) -> Tensor:
    """Return where a pixel's label is among its image's classes: bool (batch, height, width).

    Args:
        labels: Source labels, int64 (batch, height, width).
        classes: For each image the classes that are pasted.
    """
    return torch.stack(
        [torch.isin(label, chosen.to(label.device)) for label, chosen in zip(labels, classes, strict=True)]
    )


def class_mix(mask: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return `source` where the mask is set and `target` elsewhere.

    Args:
        mask: bool (batch, height, width).
        source: (batch, height, width) or (batch, channels, height, width).
        target: As `source`.
    """
    return torch.where(mask if source.ndim == 3 else mask.unsqueeze(1), source, target)
