"""HRDA: one segmenter sees the whole image downscaled and parts of it in detail; a learned attention fuses the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils.generic import can_return_tuple

from .configuration_deeplabv2 import DeepLabV2Config
from .configuration_hrda import HrdaConfig
from .detail_windows import DetailBox, cover, cut_windows, draw_detail_box, merge_windows, sliding_boxes
from .modeling_daformer import ConvNormAct, DaformerDecodeHead, DaformerForSemanticSegmentation
from .modeling_deeplabv2 import DeepLabV2DecodeHead, DeepLabV2ForSemanticSegmentation
from .segformer import SplitSegformer
from .segmenter import SegmenterPreTrainedModel, upsampled_cross_entropy

_BASES: dict[str, type[DaformerForSemanticSegmentation | DeepLabV2ForSemanticSegmentation | SplitSegformer]] = {
    base.config_class.model_type: base
    for base in (DaformerForSemanticSegmentation, DeepLabV2ForSemanticSegmentation, SplitSegformer)
}


class HrdaFeatures(NamedTuple):
    """What `encode` returns and `decode` takes; a Rebuilder replaces `context` and `detail` by its own.

    Attributes:
        context: The base's features of the downscaled image: maps of (batch, channels, height, width).
        detail: The base's features of the boxes: maps of (boxes * batch, channels, height, width), all images of the
            first box first.
        boxes: Where the details come from, in pixels of the full image.
        size: Height and width of the full image.
    """

    context: tuple[Tensor, ...]
    detail: tuple[Tensor, ...]
    boxes: tuple[DetailBox, ...]
    size: tuple[int, int]


class HrdaLogits(NamedTuple):
    """Logits of the two losses, both at the base's stride with respect to the full image.

    Attributes:
        fused: Of the whole image, (batch, num_labels, ceil(height / stride), ceil(width / stride)).
        detail: Of the part that was seen in detail, (batch, num_labels, rows, columns).
        detail_box: Where that part lies, in pixels of the full image.
    """

    fused: Tensor
    detail: Tensor
    detail_box: DetailBox


class HrdaPreTrainedModel(SegmenterPreTrainedModel):
    """What `transformers` wants to know of HRDA."""

    config: HrdaConfig
    config_class = HrdaConfig
    base_model_prefix = "base"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True


class HrdaForSemanticSegmentation(HrdaPreTrainedModel):
    """HRDA (Hoyer et al., ECCV 2022) over another segmenter: `logits = decode(encode(pixel_values))`.

    The `base`, encoder and head, is shared by both scales. Checkpoints of its ImageNet encoder, such as
    `nvidia/mit-b5`, and of the whole base load into it.

    Images of any size work that the base takes at `context_scale`; a Mix Transformer takes 29 pixels and more. An
    image whose sides are not multiples of the base's stride / `context_scale` (8 pixels, 16 over DeepLab-V2) is filled
    up on the right and at the bottom with zeros, the mean colour, and the logits of the filling are cut off. A detail
    window that is larger than the image shrinks to it.

    Raises:
        ValueError: `config.crop_divisor` is not a multiple of the base's stride.
    """

    def __init__(self, config: HrdaConfig) -> None:
        super().__init__(config)
        config.base_config.id2label, config.base_config.label2id = config.id2label, config.label2id
        self.base = _BASES[config.base_config.model_type](config.base_config)
        self.scale_attention = _scale_attention(config, self.base.feature_channels)
        if config.crop_divisor % self.stride:
            raise ValueError(
                f"crop_divisor={config.crop_divisor} must be a multiple of the base's logit stride, {self.stride}"
            )
        self.post_init()

    @property
    def stride(self) -> int:
        """Stride of the logits with respect to the full image, which is the base's."""
        return self.base.feature_strides[0]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the maps of either scale, finest stage first."""
        return self.base.feature_channels

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of the maps of either scale with respect to what the base sees: the context image, a detail window."""
        return self.base.feature_strides

    def draw_detail_box(self, height: int, width: int, generator: torch.Generator) -> DetailBox:
        """Draw the box of a training step for images of this height and width; see `detail_windows.draw_detail_box`."""
        return draw_detail_box(height, width, self.config.detail_crop_size, self.config.crop_divisor, generator)

    def encode(self, pixel_values: Tensor, detail: DetailBox | None = None) -> HrdaFeatures:
        """Return the features of the context and of the detail, in two passes of the base's encoder.

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
            detail: The box, shared by the batch, that is seen in detail (training). None: windows that slide over the
                whole image (inference and pseudo-labels), all in one batch.

        Raises:
            ValueError: The box leaves the image or is off the grid of the logits.
        """
        height, width = pixel_values.shape[-2:]
        images = self._fill_up(pixel_values)
        if detail is None:
            boxes = sliding_boxes(images.shape[-2:], self.config.detail_crop_size, self.config.detail_stride)
        else:
            self._check_box(detail, height, width)
            boxes = (detail,)
        context = self.encode_context(images)
        return HrdaFeatures(context, self.base.encode(cut_windows(images, boxes)), boxes, (height, width))

    def encode_context(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return the base's features of the downscaled images alone.

        Args:
            pixel_values: Normalised images at full size, (batch, 3, height, width).
        """
        return self.base.encode(self.context_image(pixel_values))

    def context_image(self, pixel_values: Tensor) -> Tensor:
        """Return the images as the context sees them: filled up and downscaled by `config.context_scale`.

        Args:
            pixel_values: Normalised images at full size, (batch, 3, height, width).
        """
        images = self._fill_up(pixel_values)
        height, width = (length // self.config.context_ratio for length in images.shape[-2:])
        return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)

    def decode(self, features: HrdaFeatures) -> Tensor:
        """Return the fused logits, (batch, num_labels, ceil(height / stride), ceil(width / stride))."""
        return self.decode_with_detail(features).fused

    def decode_with_detail(self, features: HrdaFeatures) -> HrdaLogits:
        """Return the fused logits and those of the detail, which have a share in the loss.

        The context goes through the head first, then the detail, which is the references' order for BatchNorm.
        """
        context = self.base.decode(features.context)
        windows = self.base.decode(features.detail)
        attention = self.scale_attention(features.context).sigmoid()

        size = [length * self.config.context_ratio for length in context.shape[-2:]]
        detail = merge_windows(windows, [box.inner(self.stride) for box in features.boxes], size)
        context_cell = self.stride * self.config.context_ratio
        covered = cover([box.inner(context_cell) for box in features.boxes], like=context)
        fused = fuse_scales(context, detail, attention * covered)

        image, seen = DetailBox(0, features.size[0], 0, features.size[1]), _hull(features.boxes, *features.size)
        return HrdaLogits(image.outer(self.stride).cut(fused), seen.outer(self.stride).cut(detail), seen)

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, output_hidden_states: bool | None = None
    ) -> SemanticSegmenterOutput:
        """Segment images, with detail windows that slide over all of them.

        An image larger than `config.window_size` is itself seen in windows, as the published numbers were measured
        (`test_cfg` "slide" of lhoyer/HRDA); `encode` and `decode`, and with them training, always take it whole.

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
            labels: Class of every pixel, (batch, height, width), or `config.semantic_loss_ignore_index`.
            output_hidden_states: Whether to return the context features as `hidden_states`, of all images in the
                first window first.

        Returns:
            `logits` at stride 4 (8 over DeepLab-V2) of an image that one window covers, and at its full size, where
            windows are merged, of a larger one. With `labels`, the `loss`: the mean cross entropies of the fused and of
            the detail logits at full size, weighted with `config.detail_loss_weight`.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        contexts: list[tuple[Tensor, ...]] = []

        def predict(images: Tensor) -> Tensor:
            """Return the fused logits and, for the loss, those of the detail behind them."""
            features = self.encode(images)
            logits = self.decode_with_detail(features)
            if output_hidden_states:
                contexts.append(features.context)
            return logits.fused if labels is None else torch.cat([logits.fused, logits.detail], dim=1)

        window = self.config.sliding_window
        logits = predict(pixel_values) if window is None else window(pixel_values, predict)
        return SemanticSegmenterOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits[:, : self.config.num_labels],
            hidden_states=tuple(map(torch.cat, zip(*contexts, strict=True))) if output_hidden_states else None,
        )

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        weight, ignore_index = self.config.detail_loss_weight, self.config.semantic_loss_ignore_index
        fused, detail = (upsampled_cross_entropy(part, labels, ignore_index) for part in logits.chunk(2, dim=1))
        return (1 - weight) * fused + weight * detail

    def _fill_up(self, pixel_values: Tensor) -> Tensor:
        cell = self.stride * self.config.context_ratio
        height, width = pixel_values.shape[-2:]
        return F.pad(pixel_values, (0, -width % cell, 0, -height % cell))

    def _check_box(self, box: DetailBox, height: int, width: int) -> None:
        inside = 0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width
        if not inside or any(coordinate % self.stride for coordinate in box):
            raise ValueError(
                f"{box} must lie within the {height} x {width} image, its sides on multiples of {self.stride}: "
                "draw it with draw_detail_box"
            )


def fuse_scales(context: Tensor, detail: Tensor, attention: Tensor) -> Tensor:
    """Return attention * detail + (1 - attention) * context at the size of the detail (HRDA, section 3.2).

    The attention is upsampled, and the context only after it was attenuated: so around a detail box the fused logits
    fade over one cell, as they do in the published networks.

    Args:
        context: Logits of the downscaled image, (batch, num_labels, height, width).
        detail: Logits of the windows in one map, 0 where there is none, (batch, num_labels, rows, columns).
        attention: How far to trust the detail, 0 to 1, and 0 where there is none, the shape of `context`.
    """
    size = detail.shape[-2:]
    weighted_context = F.interpolate((1 - attention) * context, size=size, mode="bilinear", align_corners=False)
    return F.interpolate(attention, size=size, mode="bilinear", align_corners=False) * detail + weighted_context


def _hull(boxes: Sequence[DetailBox], height: int, width: int) -> DetailBox:
    return DetailBox(
        min(box.top for box in boxes),
        min(max(box.bottom for box in boxes), height),
        min(box.left for box in boxes),
        min(max(box.right for box in boxes), width),
    )


def _scale_attention(config: HrdaConfig, feature_channels: Sequence[int]) -> nn.Module:
    base_config: PretrainedConfig = config.base_config
    if base_config.model_type == DeepLabV2Config.model_type:  # a repository's own code may exist as two classes
        return DeepLabV2DecodeHead(feature_channels[-1], config.num_labels, base_config.dilations)
    hidden_size = config.attention_hidden_size
    return DaformerDecodeHead(
        feature_channels,
        hidden_size,
        config.num_labels,
        fusion=ConvNormAct(len(feature_channels) * hidden_size, hidden_size, kernel_size=1),
        dropout=base_config.classifier_dropout_prob,
    )


__all__ = ["HrdaFeatures", "HrdaForSemanticSegmentation", "HrdaLogits", "HrdaPreTrainedModel", "fuse_scales"]
