"""The network of an exported file: an image in, its classes or logits out, at any size, without a loop in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BaseImageProcessor, PreTrainedModel

from mfm_hf.models.sliding_window import SlidingWindow

Result = Literal["classes", "logits"]


@dataclass(frozen=True)
class Normalization:
    """How an image processor makes `pixel_values` of pixels: `(pixels * scale - mean) / std`.

    Attributes:
        scale: Factor for the values 0 to 255.
        mean: Of the scaled red, green and blue.
        std: Of the scaled red, green and blue.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, processor: BaseImageProcessor) -> Normalization:
        """Return what the processor does, apart from its resizing."""
        scale = processor.rescale_factor if processor.do_rescale else 1.0
        if not processor.do_normalize:
            return cls(scale, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return cls(scale, tuple(processor.image_mean), tuple(processor.image_std))

    def __call__(self, images: Tensor) -> Tensor:
        """Return `pixel_values`, float32 (batch, 3, height, width), of `uint8` (batch, height, width, 3), RGB."""
        scaled = images.permute(0, 3, 1, 2).to(torch.float32) * self.scale
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
        return (scaled - mean) / std


class DeployedSegmenter(nn.Module):
    """A segmenter as it is exported.

    Args:
        model: The network, in eval mode.
        result: What `forward` returns.
        normalization: What is done to the pixels first. None: they come as `pixel_values`.
        window: The windows in which the network sees an image whose size is not known beforehand. None: it sees the
            images that it is given at once.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        result: Result = "classes",
        normalization: Normalization | None = None,
        window: SlidingWindow | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.result = result
        self.normalization = normalization
        self.window = window

    @property
    def input_axes(self) -> tuple[str, ...]:
        """What the dimensions of the input are called."""
        if self.normalization is None:
            return "batch", "channels", "height", "width"
        return "batch", "height", "width", "channels"

    def random_input(self, batch_size: int, size: tuple[int, int]) -> Tensor:
        """Return noise that `forward` takes, always the same, for images of this height and width."""
        generator = torch.Generator().manual_seed(0)
        if self.normalization is None:
            return torch.randn(batch_size, 3, *size, generator=generator)
        return torch.randint(256, (batch_size, *size, 3), dtype=torch.uint8, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Segment images.

        Args:
            images: `pixel_values`, float32 (batch, 3, height, width), or, with a `normalization`, RGB, `uint8` (batch,
                height, width, 3).

        Returns:
            The class of every pixel, (batch, height, width), `uint8` or (above 256 classes) `int32`; or the logits
            (batch, num_labels, h, w) at the network's own stride, and at the images' size where there are windows.
        """
        pixel_values = images if self.normalization is None else self.normalization(images)
        if self.window is None:
            logits = self.model(pixel_values=pixel_values).logits
        else:
            logits = slide(self.window, pixel_values, self._segment_window)
        if self.result == "logits":
            return logits
        if self.window is None:
            logits = F.interpolate(logits, size=pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        return logits.argmax(dim=1).to(torch.uint8 if self.model.config.num_labels <= 256 else torch.int32)

    def _segment_window(self, windows: Tensor) -> Tensor:
        return self.model(pixel_values=windows).logits


def slide(window: SlidingWindow, images: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what `window(images, predict)` returns at the images' size, as operations on tensors alone.

    The loops of `SlidingWindow` run as often as the traced image has windows. Here their number is a function of the
    image's size, so that one graph serves all sizes from that of a window on: all windows go through `predict` in one
    batch, and every pixel gathers the logits of those that cover it. Nothing is scattered: sums over
    windows that overlap would depend on how a runtime orders its threads.

    Args:
        window: Size and stride of the windows.
        images: Normalised images, (batch, 3, height, width), no smaller than a window.
        predict: Images -> logits at any stride, (images, channels, h, w).

    Returns:
        (batch, channels, height, width).
    """
    (batch_size, _, height, width), (rows, columns) = images.shape, window.size
    down, across = _Axis(height, rows, window.stride[0]), _Axis(width, columns, window.stride[1])
    # One index for batch, rows and columns of windows: the first dimension of a tensor alone may have any length
    # without a guard that it is not 1.
    number = torch.arange(batch_size * down.count * across.count, device=images.device)
    row = number // across.count
    image = row // down.count
    top, left = down.start(row - image * down.count), across.start(number - row * across.count)
    y = top[:, None, None] + torch.arange(rows, device=images.device)[:, None]
    x = left[:, None, None] + torch.arange(columns, device=images.device)
    windows = images.permute(0, 2, 3, 1)[image[:, None, None], y, x].permute(0, 3, 1, 2)

    logits = F.interpolate(predict(windows), size=window.size, mode="bilinear", align_corners=False)
    pixels = logits.permute(0, 2, 3, 1).flatten(0, 2)
    total, count = torch.zeros((), device=images.device), torch.zeros((), device=images.device)
    image = torch.arange(batch_size, device=images.device)[:, None, None]
    for row, y, above in down.covering(images.device):
        for column, x, beside in across.covering(images.device):
            number = (image * down.count + row[:, None]) * across.count + column
            covered = (above[:, None] & beside)[..., None].to(logits.dtype)
            total = total + pixels[number * (rows * columns) + (y[:, None] * columns + x)] * covered
            count = count + covered
    return (total / count).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Axis:
    """The windows along one side of an image, as `detail_windows.sliding_boxes` lays them.

    Attributes:
        length: Pixels of the image.
        size: Pixels of a window.
        stride: Pixels between the starts of two windows; the last window ends with the image.
    """

    length: int
    size: int
    stride: int

    @property
    def count(self) -> int:
        return (self.length - self.size + self.stride - 1) // self.stride + 1

    def start(self, index: Tensor) -> Tensor:
        """Return the first pixels of windows. Never below 0, so that an image below a window's size is an error."""
        return (index * self.stride).clamp(max=self.length - self.size).clamp(min=0)

    def covering(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield, for every pixel, a window that may cover it, the place in that window, and whether it does."""
        pixel = torch.arange(self.length, device=device)
        # The next window may be the last one, which starts early.
        latest = (pixel // self.stride + 1).clamp(max=self.count - 1)
        for back in range(-(-self.size // self.stride) + 1):
            index = latest - back
            place = pixel - self.start(index)
            covers = (index >= 0) & (place >= 0) & (place < self.size)
            yield index.clamp(min=0), place.clamp(0, self.size - 1), covers
