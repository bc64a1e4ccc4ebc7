"""The mask M over the encoder's features: one draw on a grid, brought to every stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig


class FeatureMask(nn.Module):
    """Masks a part of the encoder's features and puts zeros there: the paper's control without a Rebuilder.

    Args:
        config: Grid, share and sampling of the mask.
        feature_strides: Stride of every stage with respect to the image, finest first.
    """

    def __init__(self, config: RebuilderConfig, feature_strides: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.feature_strides = tuple(feature_strides)

    def reset_parameters(self) -> None:
        """Initialise the parameters, of which there are none."""

    def forward(self, features: Sequence[Tensor], mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return features of the same shapes, zero where they were masked: (1 - M) * f^t.

        Args:
            features: f^t, the stages' features, finest first, each (batch, channels, height, width).
            mask: M, bool (batch, rows, columns) of the grid, True where masked. Default: drawn by `draw_mask`.
        """
        if mask is None:
            mask = self.draw_mask(features[-1].shape[0], device=features[-1].device)
        masks = stage_masks(mask, [feature.shape[-2:] for feature in features])
        return tuple(feature.masked_fill(mask, 0.0) for mask, feature in zip(masks, features, strict=True))

    def draw_mask(
        self, batch_size: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Draw M, bool (batch_size, rows, columns), True where masked, independently for every sample."""
        rows, columns = self.config.grid
        noise = torch.rand(batch_size, rows * columns, generator=generator)
        if self.config.mask_sampling == "bernoulli":
            mask = noise < self.config.mask_ratio
        else:
            num_visible = int(rows * columns * (1 - self.config.mask_ratio))  # as MAE counts them
            mask = noise.argsort(dim=1).argsort(dim=1) >= num_visible
        return mask.unflatten(1, (rows, columns)).to(device)

    def realised_ratios(self, mask: Tensor, image_size: tuple[int, int]) -> list[float]:
        """Return the masked share of every stage, finest first, for images of this height and width.

        A stage coarser than the grid sees only some of its tokens, so its share may be far from the configured one.
        """
        sizes = [[-(-length // stride) for length in image_size] for stride in self.feature_strides]
        return [stage_mask.float().mean().item() for stage_mask in stage_masks(mask, sizes)]


def stage_masks(mask: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Bring the mask of the grid to every stage's size by nearest neighbour: bool (batch, 1, height, width)."""
    grid_mask = mask.unsqueeze(1).to(torch.uint8)
    return [F.interpolate(grid_mask, size=tuple(size), mode="nearest").bool() for size in sizes]
