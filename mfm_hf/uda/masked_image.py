"""Masked image consistency: hide patches of an image and ask for the whole (MIC, Hoyer et al., CVPR 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def draw_patch_mask(
    batch_size: int, image_size: tuple[int, int], block_size: int, ratio: float, generator: torch.Generator
) -> Tensor:
    """Draw which patches stay visible (`masking.py` in lhoyer/MIC).

    Args:
        batch_size: Number of images.
        image_size: Height and width in pixels.
        block_size: Side of a patch in pixels.
        ratio: Probability with which a patch is hidden, each on its own.
        generator: Source of randomness.

    Returns:
        bool (batch_size, rows, columns), True where visible.
    """
    rows, columns = (round(length / block_size) for length in image_size)
    return torch.rand(batch_size, max(1, rows), max(1, columns), generator=generator) > ratio


def hide_patches(pixel_values: Tensor, visible: Tensor) -> Tensor:
    """Set the hidden patches of normalised images (batch, 3, height, width) to 0, which is the mean colour.

    Args:
        pixel_values: Normalised images.
        visible: bool (batch, rows, columns), brought to the images' size by nearest neighbour.
    """
    mask = F.interpolate(visible.unsqueeze(1).to(pixel_values.dtype), size=pixel_values.shape[-2:], mode="nearest")
    return pixel_values * mask
