"""Every random choice of a training step, as one value, so that a step can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mfm_hf.models.detail_windows import DetailBox
from mfm_hf.uda.augmentation import StrongAugmentation


@dataclass(frozen=True)
class StepChoices:
    """What chance decides in one step. Data order, crops and flips belong to the streams, dropout to PyTorch.

    Args:
        pasted_classes: For each image of the view `mixed`, the classes that come from the source image.
        mixed_augmentations: For each image of `mixed`, its strong augmentation.
        masked_augmentations: For each image of a masked view, its strong augmentation; empty for none.
        visible_patches: Of a masked view, the patches that stay: bool (batch, rows, columns).
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

    def of_images(self, images: slice) -> StepChoices:
        """Return the choices for some images of the batch. What is chosen for a whole batch, they share.

        Not for the view `masked_pair`, whose two images are not those of the batch.
        """
        return replace(
            self,
            pasted_classes=self.pasted_classes[images],
            mixed_augmentations=self.mixed_augmentations[images],
            masked_augmentations=self.masked_augmentations[images],
            visible_patches=self.visible_patches[images],
            target_augmentations=self.target_augmentations[images],
            rebuilder_masks={view: mask[..., images, :, :] for view, mask in self.rebuilder_masks.items()},
        )
