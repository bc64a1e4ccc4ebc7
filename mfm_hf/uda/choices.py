"""Every random choice of a training step, drawn in one place, so that a step can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.models.detail_windows import DetailBox
from mfm_hf.uda.augmentation import StrongAugmentation, draw_strong_augmentations
from mfm_hf.uda.class_mix import draw_classes
from mfm_hf.uda.masked_image import draw_patch_mask

if TYPE_CHECKING:  # recipes are built of objectives, which read views, which are made by choices
    from mfm_hf.uda.recipes import Recipe


@dataclass(frozen=True)
class StepChoices:
    """What chance decides in one step. Data order, crops and flips belong to the streams, dropout to PyTorch.

    Args:
        pasted_classes: For each image of the view `mixed`, the classes that come from the source image.
        mixed_augmentations: For each image of `mixed`, its strong augmentation.
        masked_augmentations: For each image of `masked`, its strong augmentation.
        visible_patches: Of `masked` or `masked_pair`, the patches that stay: bool (batch, rows, columns).
        target_augmentations: For each image of `augmented_target`, its strong augmentation.
        details: By view, what HRDA looks at in detail; None for the other networks.
        rebuilder_masks: By view, the Rebuilder's mask, as the network's `draw_mask` returns it.
    """

    pasted_classes: tuple[Tensor, ...] = ()
    mixed_augmentations: tuple[StrongAugmentation, ...] = ()
    masked_augmentations: tuple[StrongAugmentation, ...] = ()
    visible_patches: Tensor = field(default_factory=lambda: torch.ones(1, 1, 1, dtype=torch.bool))
    target_augmentations: tuple[StrongAugmentation, ...] = ()
    details: Mapping[str, DetailBox | None] = field(default_factory=dict)
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
    drawn: dict[str, object] = {}
    if "mixed" in recipe.views:
        drawn["pasted_classes"] = draw_classes(
            source_labels, generator, recipe.class_mix_scope, None if recipe.class_mix_ignored else recipe.ignore_index
        )
        drawn["mixed_augmentations"] = draw_strong_augmentations(batch_size, recipe.augmentation, generator)
    if "masked" in recipe.views:
        drawn["masked_augmentations"] = draw_strong_augmentations(
            batch_size, recipe.augmentation, generator, shared=True
        )
    if "masked" in recipe.views or "masked_pair" in recipe.views:
        number = batch_size if "masked" in recipe.views else 2
        drawn["visible_patches"] = draw_patch_mask(
            number, (height, width), recipe.patch_size, recipe.patch_mask_ratio, generator
        )
    drawn["details"] = {view: student.draw_detail(height, width, generator) for view in recipe.views}
    if "augmented_target" in recipe.views:
        drawn["target_augmentations"] = draw_strong_augmentations(
            batch_size, recipe.augmentation, generator, shared=True
        )
    drawn["rebuilder_masks"] = {view: student.draw_mask(batch_size, generator) for view in recipe.rebuilt_views}
    return StepChoices(**drawn)  # type: ignore[arg-type]
