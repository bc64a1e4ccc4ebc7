"""Large images in windows: each is segmented on its own, and where they overlap their logits are averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from .detail_windows import cut_windows, sliding_boxes


@dataclass(frozen=True)
class SlidingWindow:
    """How windows slide over an image (`test_cfg` "slide" of lhoyer/HRDA).

    Attributes:
        size: Rows and columns of a window in pixels. A window larger than the image shrinks to it.
        stride: Rows and columns between the starts of two windows. The last of a row or column ends at the edge.
        batch_size: Windows per forward pass, each cut out of every image of the batch. It changes memory, not numbers.

    Raises:
        ValueError: A number below 1, or a stride that leaves gaps between the windows.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    batch_size: int = 1

    def __post_init__(self) -> None:
        if len(self.size) != 2 or len(self.stride) != 2 or min(*self.size, *self.stride, self.batch_size) < 1:
            raise ValueError(f"a window needs two positive sizes and strides, and a batch of 1 or more, not {self}")
        if self.stride[0] > self.size[0] or self.stride[1] > self.size[1]:
            raise ValueError(f"a stride of {self.stride} leaves gaps between windows of {self.size}: make it no larger")

    def __call__(self, images: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the logits of images that are seen window by window.

        Each window's logits are brought to the window's size before they are summed and divided by the number of
        windows at a pixel, in this order, as the references do.

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
        total, count = images.new_zeros(()), images.new_zeros(height, width)
        for start in range(0, len(boxes), self.batch_size):
            part = boxes[start : start + self.batch_size]
            windows = cut_windows(images, part)
            logits = F.interpolate(predict(windows), size=windows.shape[-2:], mode="bilinear", align_corners=False)
            if start == 0:
                total = logits.new_zeros(len(images), logits.shape[1], height, width)
            for box, window in zip(part, logits.split(len(images)), strict=True):
                box.cut(total).add_(window)
                box.cut(count).add_(1)
        return total / count


__all__ = ["SlidingWindow"]
