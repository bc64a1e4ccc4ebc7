"""Large images in windows: each is segmented on its own, and where they overlap their logits are averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from .detail_windows import cut_windows, sliding_boxes

Blending = Literal["uniform", "gaussian"]


@dataclass(frozen=True)
class SlidingWindow:
    """How windows slide over an image (`test_cfg` "slide" of lhoyer/HRDA).

    Attributes:
        size: Rows and columns of a window in pixels. A window larger than the image shrinks to it.
        stride: Rows and columns between the starts of two windows. The last of a row or column ends at the edge.
        batch_size: Windows per forward pass, each cut out of every image of the batch. It changes memory, not numbers.
        blending: What a window counts where it overlaps others: the same everywhere (the references), or more in its
            middle than at its border, where a network sees less of what is around a pixel; see `gaussian_weights`.

    Raises:
        ValueError: A number below 1, a stride that leaves gaps between the windows, or no such blending.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    batch_size: int = 1
    blending: Blending = "uniform"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or len(self.stride) != 2 or min(*self.size, *self.stride, self.batch_size) < 1:
            raise ValueError(f"a window needs two positive sizes and strides, and a batch of 1 or more, not {self}")
        if self.stride[0] > self.size[0] or self.stride[1] > self.size[1]:
            raise ValueError(f"a stride of {self.stride} leaves gaps between windows of {self.size}: make it no larger")
        if self.blending not in get_args(Blending):
            raise ValueError(f"windows are blended {' or '.join(get_args(Blending))}, not {self.blending}")

    def __call__(self, images: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the logits of images that are seen window by window.

        Each window's logits are brought to the window's size before they are summed and divided by the number of
        windows at a pixel, in this order, as the references do; blended by weights, by the sum of the weights there.
        Sums are in float32 at least.

        Args:
            images: Normalised images, (batch, 3, height, width).
            predict: Images -> logits at any stride, (images, channels, h, w).

        Returns:
            (batch, channels, height, width); what `predict` returns if one window covers the image.
        """
        height, width = images.shape[-2:]
        boxes = sliding_boxes((height, width), self.size, self.stride)
        if len(boxes) == 1:
            return predict(images)
        total = count = weights = images.new_zeros(())
        for start in range(0, len(boxes), self.batch_size):
            part = boxes[start : start + self.batch_size]
            windows = cut_windows(images, part)
            logits = F.interpolate(predict(windows), size=windows.shape[-2:], mode="bilinear", align_corners=False)
            if start == 0:
                dtype = torch.promote_types(logits.dtype, torch.float32)
                total = logits.new_zeros(len(images), logits.shape[1], height, width, dtype=dtype)
                count = logits.new_zeros(height, width, dtype=dtype)
                weights = self._weights(*windows.shape[-2:]).to(count)
            for box, window in zip(part, logits.split(len(images)), strict=True):
                box.cut(total).addcmul_(window.to(dtype), weights)
                box.cut(count).add_(weights)
        return (total / count).to(logits.dtype)

    def _weights(self, rows: int, columns: int) -> Tensor:
        """Return what each pixel of a window counts, (rows, columns)."""
        return gaussian_weights(rows, columns) if self.blending == "gaussian" else torch.ones(rows, columns)


def gaussian_weights(rows: int, columns: int) -> Tensor:
    """Return weights that fall from 1 in the middle of a window to its border: float32 (rows, columns).

    A Gaussian whose standard deviations are an eighth of the sides (`compute_gaussian` in MIC-DKFZ/nnUNet). nnU-Net
    cuts it off and fills the zeros with the smallest weight; here corners have about 1e-7, so there are no zeros.
    """
    sides = []
    for length in (rows, columns):
        place = torch.arange(length, dtype=torch.float32) - (length - 1) / 2
        side = torch.exp(-0.5 * (place / (length / 8)) ** 2)
        sides.append(side / side.max())
    return torch.outer(*sides)


__all__ = ["Blending", "SlidingWindow", "gaussian_weights"]
