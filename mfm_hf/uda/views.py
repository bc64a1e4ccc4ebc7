"""Views: the batches that the objectives of a step look at, made from source, target and the teacher's word."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mfm_hf.uda.augmentation import augment
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.class_mix import class_mask, class_mix
from mfm_hf.uda.pseudo_label import PseudoLabel


@dataclass(frozen=True)
class View:
    """A batch as an objective sees it.

    Args:
        pixel_values: Normalised images, float32 (batch, 3, height, width).
        labels: Class of every pixel, int64 (batch, height, width).
        weights: Weight of every pixel, float32 (batch, height, width); None means 1.
        detail: What HRDA looks at in detail; None for the other networks.
        rebuilder_mask: The Rebuilder's mask if this view's features are rebuilt, bool (batch, rows, columns).
    """

    pixel_values: Tensor
    labels: Tensor
    weights: Tensor | None = None
    detail: Any = None
    rebuilder_mask: Tensor | None = None


def make_views(
    names: Collection[str],
    source_pixels: Tensor,
    source_labels: Tensor,
    target_pixels: Tensor | None,
    pseudo: PseudoLabel | None,
    choices: StepChoices,
) -> dict[str, View]:
    """Make the named views.

    `source` is x^s with y^s; `target` the weakly augmented x^t with its pseudo-label; `mixed` the ClassMix of the
    two, strongly augmented.

    Args:
        names: Which views to make.
        source_pixels: Normalised images, (batch, 3, height, width).
        source_labels: int64 (batch, height, width).
        target_pixels: As `source_pixels`; None if only the source view is made.
        pseudo: The teacher's labels and weights of the target; None likewise.
        choices: The step's random choices.
    """

    def view(name: str, pixels: Tensor, labels: Tensor, weights: Tensor | None) -> View:
        mask = choices.rebuilder_masks.get(name)
        mask = None if mask is None else mask.to(pixels.device, non_blocking=True)
        return View(pixels, labels, weights, choices.details.get(name), mask)

    views = {"source": view("source", source_pixels, source_labels, None)}
    if target_pixels is not None and pseudo is not None:
        views["target"] = view("target", target_pixels, pseudo.labels, pseudo.weights)
        if "mixed" in names:
            pasted = class_mask(source_labels, choices.pasted_classes)
            pixels = augment(class_mix(pasted, source_pixels, target_pixels), choices.mixed_augmentations)
            weights = pseudo.weights.masked_fill(pasted, 1.0)
            views["mixed"] = view("mixed", pixels, class_mix(pasted, source_labels, pseudo.labels), weights)
    return {name: views[name] for name in names}
