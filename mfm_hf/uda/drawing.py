"""Drawing the random choices of a training step, all in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.augmentation import draw_strong_augmentations
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.class_mix import draw_classes
from mfm_hf.uda.global_statistics import BatchStatistics, gather_images, share_of_this_process
from mfm_hf.uda.masked_image import draw_patch_mask
from mfm_hf.uda.recipes import Recipe


def draw_choices(
    recipe: Recipe,
    student: DomainAdaptationModel,
    source_labels: Tensor,
    generator: torch.Generator,
    statistics: BatchStatistics = "process",
) -> StepChoices:
    """Draw the choices of a step for the images of this process.

    What Masked Feature Modeling needs is drawn last, so that the other choices are the same with and without it.

    Args:
        recipe: Decides which views there are and how they are augmented.
        student: The network that is trained.
        source_labels: int64 (batch, height, width), on the CPU.
        generator: Source of randomness. Under `global` it is seeded alike in all processes.
        statistics: `global` draws for the images of all processes, as one process that holds them all would.
    """
    pastes = "mixed" in recipe.views
    present = [label.unique() if pastes else label.new_empty(0) for label in source_labels]
    height, width = source_labels.shape[1:]
    if statistics == "process":
        return _draw(recipe, student, present, (height, width), generator)
    choices = _draw(recipe, student, gather_images(present), (height, width), generator)
    return choices.of_images(share_of_this_process())


def _draw(
    recipe: Recipe,
    student: DomainAdaptationModel,
    present: Sequence[Tensor],
    image_size: tuple[int, int],
    generator: torch.Generator,
) -> StepChoices:
    """Draw the choices for images of a size, in which these labels are present."""
    batch_size, (height, width) = len(present), image_size
    choices, config = StepChoices(), recipe.augmentation
    if "mixed" in recipe.views:
        left_out = None if recipe.class_mix_ignored else recipe.ignore_index
        choices = replace(
            choices,
            pasted_classes=draw_classes(present, generator, recipe.class_mix_scope, left_out),
            mixed_augmentations=draw_strong_augmentations(batch_size, config, generator),
        )
    if any(view.startswith("masked") for view in recipe.views):
        number = 2 if "masked_pair" in recipe.views else batch_size
        if recipe.masked_augmented:
            augmentations = draw_strong_augmentations(number, config, generator, shared=True)
            choices = replace(choices, masked_augmentations=augmentations)
        size, ratio = recipe.patch_size, recipe.patch_mask_ratio
        choices = replace(choices, visible_patches=draw_patch_mask(number, image_size, size, ratio, generator))
    choices = replace(choices, details={view: student.draw_detail(height, width, generator) for view in recipe.views})
    if "augmented_target" in recipe.views:
        augmentations = draw_strong_augmentations(batch_size, config, generator, shared=True)
        choices = replace(choices, target_augmentations=augmentations)
    masks = {view: student.draw_mask(batch_size, generator) for view in recipe.rebuilt_views}
    return replace(choices, rebuilder_masks=masks)
