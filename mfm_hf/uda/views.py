"""Views: the batches that the objectives of a step look at, made from source, target and the teacher's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mfm_hf.models.detail_windows import DetailBox
from mfm_hf.uda.augmentation import augment
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.class_mix import class_mask, class_mix
from mfm_hf.uda.global_statistics import BatchStatistics
from mfm_hf.uda.masked_image import hide_patches


@dataclass(frozen=True)
class View:
    """A batch as an objective sees it.

    Args:
        pixel_values: Normalised images, float32 (batch, 3, height, width).
        labels: Class of every pixel, int64 (batch, height, width).
        weights: Weight of every pixel, float32 (batch, height, width); None means 1.
        detail: What HRDA looks at in detail; None for the other networks.
        rebuilder_mask: The Rebuilder's mask if this view's features are rebuilt, as `draw_mask` returns it.
        pretrained: Deepest features of the pretrained encoder, if the feature distance needs them.
        teacher_features: What the mean teacher's encoder makes of the images, if they are to be restored.
        statistics: Over whose images an objective takes its own statistics: this process's or all.
    """

    pixel_values: Tensor
    labels: Tensor
    weights: Tensor | None = None
    detail: DetailBox | None = None
    rebuilder_mask: Tensor | None = None
    pretrained: Tensor | None = None
    teacher_features: Any = None
    statistics: BatchStatistics = "process"


def source_view(source: View, target: View | None, choices: StepChoices) -> View:
    """x^s with y^s."""
    return source


def target_view(source: View, target: View, choices: StepChoices) -> View:
    """The weakly augmented x^t with its pseudo-label."""
    return target


def augmented_target_view(source: View, target: View, choices: StepChoices) -> View:
    """x^t strongly augmented, with the pseudo-label of the clean image."""
    return replace(target, pixel_values=augment(target.pixel_values, choices.target_augmentations))


def mixed_view(source: View, target: View, choices: StepChoices) -> View:
    """ClassMix of source and target, strongly augmented: pixels, labels and weights are mixed alike."""
    pasted = class_mask(source.labels, choices.pasted_classes)
    mixed = class_mix(pasted, source.pixel_values, target.pixel_values)
    return View(
        pixel_values=augment(mixed, choices.mixed_augmentations),
        labels=class_mix(pasted, source.labels, target.labels),
        weights=None if target.weights is None else target.weights.masked_fill(pasted, 1.0),
    )


def masked_view(source: View, target: View, choices: StepChoices) -> View:
    """x^t with patches hidden (MIC)."""
    return _hide(target, choices)


def masked_source_view(source: View, target: View, choices: StepChoices) -> View:
    """x^s with patches hidden (a mode of MIC's code)."""
    return _hide(source, choices)


def masked_pair_view(source: View, target: View, choices: StepChoices) -> View:
    """The first source and the first target image with patches hidden (MIC's mode for adverse weather)."""
    weights = None
    if target.weights is not None:
        weights = torch.cat([torch.ones_like(target.weights[:1]), target.weights[:1]])
    pixels, labels = (
        torch.cat([a[:1], b[:1]])
        for a, b in ((source.pixel_values, target.pixel_values), (source.labels, target.labels))
    )
    return _hide(View(pixels, labels, weights), choices)


def _hide(view: View, choices: StepChoices) -> View:
    """Augment the images, where that was drawn, and hide patches; labels and weights are those of the whole image."""
    images = view.pixel_values
    if choices.masked_augmentations:
        images = augment(images, choices.masked_augmentations)
    visible = choices.visible_patches.to(images.device, non_blocking=True)
    return replace(view, pixel_values=hide_patches(images, visible))


VIEWS: dict[str, Callable[[View, View, StepChoices], View]] = {
    "source": source_view,
    "target": target_view,
    "augmented_target": augmented_target_view,
    "mixed": mixed_view,
    "masked": masked_view,
    "masked_source": masked_source_view,
    "masked_pair": masked_pair_view,
}


def make_views(names: tuple[str, ...], source: View, target: View | None, choices: StepChoices) -> dict[str, View]:
    """Make the named views from the source and the target batch and the step's choices.

    Args:
        names: Keys of `VIEWS`.
        source: Normalised source images with their labels.
        target: Normalised target images with pseudo-labels and weights; None if `names` is the source alone.
        choices: The step's random choices; what concerns a view is given to it here.
    """
    views = {}
    for name in names:
        view = VIEWS[name](source, source if target is None else target, choices)
        mask = choices.rebuilder_masks.get(name)
        device = view.pixel_values.device
        views[name] = replace(
            view,
            detail=choices.details.get(name),
            rebuilder_mask=None if mask is None else mask.to(device, non_blocking=True),
        )
    return views
