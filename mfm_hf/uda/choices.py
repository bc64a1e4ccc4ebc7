"""Every random choice of a training step, drawn in one place, so that a step can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.augmentation import StrongAugmentation, draw_strong_augmentations
from mfm_hf.uda.class_mix import draw_classes

if TYPE_CHECKING:  # recipes are built of objectives, which read views, which are made by choices
    from mfm_hf.uda.recipes import Recipe


@dataclass(frozen=True)
class StepChoices:
    """What chance decides in one step. Data order, crops and flips belong to the streams, dropout to PyTorch.

    Args:
        pasted_classes: For each image of the mixed view, the classes that come from the source image.
        mixed_augmentations: For each image of the mixed view, its strong augmentation.
        details: By view, what HRDA looks at in detail; None for the other networks.
        rebuilder_masks: By view, the Rebuilder's mask, bool (batch, rows, columns), True where masked.
    """

    pasted_classes: tuple[Tensor, ...] = ()
    mixed_augmentations: tuple[StrongAugmentation, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    rebuilder_masks: Mapping[str, Tensor] = field(default_factory=dict)


def draw_choices(
    recipe: Recipe, student: DomainAdaptationModel, source_labels: Tensor, generator: torch.Generator
) -> StepChoices:
    """Draw the choices of a step.

    What Masked Feature Modeling needs is drawn last, so that the other choices are the same with and without it.

    Args:
        recipe: Decides which views there are and how they are augmented.
        student: The network that is trained.
        source_labels: int64 (batch, height, width), on the CPU.
        generator: Source of randomness.
    """
    batch_size, height, width = source_labels.shape
    pasted_classes: tuple[Tensor, ...] = ()
    augmentations: tuple[StrongAugmentation, ...] = ()
    if "mixed" in recipe.views:
        pasted_classes = draw_classes(source_labels, generator)
        augmentations = draw_strong_augmentations(
            batch_size,
            generator,
            recipe.color_jitter_strength,
            recipe.color_jitter_probability,
            recipe.blur_probability,
        )
    details = {view: student.draw_detail(height, width, generator) for view in recipe.views}
    masks = {view: student.draw_mask(batch_size, generator) for view in recipe.rebuilt_views}
    return StepChoices(pasted_classes, augmentations, details, masks)
