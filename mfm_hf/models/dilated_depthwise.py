"""A dilated depth-wise convolution that is fast on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A depth-wise 3 x 3 convolution with dilation that keeps height and width.

    On a CPU it is computed as a convolution without dilation of the `dilation` x `dilation` images that hold every
    `dilation`-th pixel, its phases: PyTorch's kernels with dilation take about 5 times as long in float32, with the
    backward pass, and up to 80 times in half precision. Each pixel is the same sum of nine products. Elsewhere, and in
    an exported program, which may run on any device, it is `nn.Conv2d`.

    Args:
        channels: Channels of input and output.
        dilation: Spacing of the kernel's points.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            channels, channels, kernel_size=3, padding=dilation, dilation=dilation, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the filtered maps, (batch, channels, height, width); on a CPU in `channels_last`."""
        if input.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        return _PhasewiseConvolution.apply(input.to(dtype), self.weight.to(dtype), self.dilation[0])


class _PhasewiseConvolution(torch.autograd.Function):
    """The convolution by phases. It keeps the maps for its backward pass, which other branches keep too, not phases."""

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, step: int) -> Tensor:
        filtered = F.conv2d(_to_phases(maps, step), weight, padding=1, groups=len(weight))
        return _from_phases(filtered, step, *maps.shape[-2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        maps, weight, ctx.step = inputs
        ctx.save_for_backward(maps, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        maps, weight = ctx.saved_tensors
        of_maps, of_weight, _ = torch.ops.aten.convolution_backward(
            _to_phases(gradient, ctx.step),
            _to_phases(maps, ctx.step),
            weight,
            bias_sizes=None,
            stride=[1, 1],
            padding=[1, 1],
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=len(weight),
            output_mask=[*ctx.needs_input_grad[:2], False],
        )
        if of_maps is not None:
            of_maps = _from_phases(of_maps, ctx.step, *maps.shape[-2:])
        return of_maps, of_weight, None


def _to_phases(maps: Tensor, step: int) -> Tensor:
    """From (batch, channels, height, width) to (batch * step^2, channels, height / step, width / step), rounded up.

    Both lie in `channels_last`. What is rounded up is zero.
    """
    batch, channels, height, width = maps.shape
    rows, columns = -(-height // step), -(-width // step)
    phases = maps.new_empty(batch, step, step, rows, columns, channels)
    if height % step:
        phases[:, height % step :, :, -1] = 0
    if width % step:
        phases[:, :, width % step :, :, -1] = 0
    for pixels, same_pixels in _same_pixels(maps.permute(0, 2, 3, 1), phases):
        same_pixels.copy_(pixels)
    return phases.flatten(0, 2).permute(0, 3, 1, 2)


def _from_phases(phases: Tensor, step: int, height: int, width: int) -> Tensor:
    """The way back from `_to_phases`, which drops what was rounded up."""
    grid = phases.permute(0, 2, 3, 1).unflatten(0, (-1, step, step))
    maps = phases.new_empty(len(grid), height, width, phases.shape[1])
    for pixels, same_pixels in _same_pixels(maps, grid):
        pixels.copy_(same_pixels)
    return maps.permute(0, 3, 1, 2)


def _same_pixels(maps: Tensor, phases: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield views of the same pixels in the same order.

    Args:
        maps: (batch, height, width, channels).
        phases: (batch, row's phase, column's phase, row, column, channels).
    """
    _, height, width, _ = maps.shape
    step = phases.shape[1]
    for ys, rows, num_row_phases in _periods(height, step):
        for xs, columns, num_column_phases in _periods(width, step):
            grid = maps[:, ys, xs].unflatten(2, (-1, num_column_phases)).unflatten(1, (-1, num_row_phases))
            yield grid.permute(0, 2, 4, 1, 3, 5), phases[:, :num_row_phases, :num_column_phases, rows, columns]


def _periods(size: int, step: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield the pixels, the indices and the length of all whole periods, then of what is left of the last."""
    whole, rest = divmod(size, step)
    if whole:
        yield slice(0, whole * step), slice(0, whole), step
    if rest:
        yield slice(whole * step, size), slice(whole, whole + 1), rest


__all__ = ["DilatedDepthwiseConv2d"]
