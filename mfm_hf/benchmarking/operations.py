"""Counting floating-point operations where PyTorch's own counter does not: grouped convolutions, attention on a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
Shape = Sequence[int]


def count_flops(work: Callable[[], object]) -> int:
    """Count the floating-point operations of matrix products, convolutions and attention; a multiply-add is two."""
    with FlopCounterMode(display=False, custom_mapping=_MISSING) as counter:
        work()
    return counter.get_total_flops()


def _convolution_backward(
    grad_shape: Shape,
    input_shape: Shape,
    weight_shape: Shape,
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    output_mask: Sequence[bool],
    **_: object,
) -> int:
    """As many as forward for the gradient of the input, and for that of the weight. PyTorch forgets the groups."""
    positions = input_shape if transposed else grad_shape
    forward = 2 * positions[0] * math.prod(positions[2:]) * math.prod(weight_shape)
    return forward * sum(output_mask[:2])


def _attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


_MISSING: dict[Any, Any] = {
    aten.convolution_backward: _convolution_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
