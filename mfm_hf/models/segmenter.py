"""What our segmenters share: how a decoder starts, and the loss that `forward` returns."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init


class SegmenterPreTrainedModel(PreTrainedModel):
    """A network whose encoder is a `PreTrainedModel` that initialises itself; the decoders are initialised here."""

    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise a layer of a decoder as the heads of lhoyer/DAFormer and mmcv's ConvModule do.

        Layer by layer, because the library never calls this for a part that has no weights of its own.
        """
        if isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = 1 / math.sqrt(module.in_features)
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Conv2d) and module.bias is None:
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):  # those that give logits
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


def upsampled_cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Return the mean cross entropy of the logits at the labels' size over the pixels that are not ignored.

    Args:
        logits: (batch, num_labels, height, width) at any stride.
        labels: Class of every pixel, int64 (batch, full height, full width).
        ignore_index: Label of the pixels that are left out.
    """
    upsampled = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(upsampled, labels, ignore_index=ignore_index)


__all__ = ["SegmenterPreTrainedModel", "upsampled_cross_entropy"]
