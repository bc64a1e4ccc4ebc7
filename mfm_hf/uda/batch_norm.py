"""What a pass through the network does to BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormMode = Literal["update", "batch_no_update", "running"]


@contextmanager
def batch_norm_mode(module: nn.Module, mode: BatchNormMode) -> Iterator[None]:
    """Let the BatchNorm layers of a module in train mode behave otherwise for a while.

    Args:
        module: Any module.
        mode: `update`: normalise with the batch and note it in the running statistics, as in any training pass.
            `batch_no_update`: normalise with the batch, but leave the running statistics alone. `running`: normalise
            with the running statistics.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    if mode == "update" or not layers:
        yield
        return
    kept = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        if mode == "running":
            layer.eval()
        else:
            layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, kept, strict=True):
            layer.train()
            layer.momentum, layer.num_batches_tracked = momentum, count
