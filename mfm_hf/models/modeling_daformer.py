"""DAFormer: a Mix Transformer encoder and a decoder that fuses all its stages with context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils.generic import can_return_tuple

from .configuration_daformer import DaformerConfig
from .dilated_depthwise import DilatedDepthwiseConv2d
from .mix_transformer import MixTransformer, stage_strides
from .segmenter import SegmenterPreTrainedModel, upsampled_cross_entropy


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU. Keeps height and width.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: 1 or 3.
        dilation: Spacing of the kernel's points; the padding follows it.
        groups: Number of groups; `in_channels` for a depth-wise convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv: nn.Conv2d
        if dilation > 1 and kernel_size == 3 and groups == in_channels == out_channels:
            self.conv = DilatedDepthwiseConv2d(in_channels, dilation)
        else:
            padding = dilation * (kernel_size // 2)
            self.conv = nn.Conv2d(
                in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=False
            )
        self.batch_norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU(inplace=True)


class SeparableAspp(nn.Module):
    """Atrous spatial pyramid pooling with depth-wise separable convolutions and without image pooling.

    Parallel branches look at the input (batch, in_channels, height, width) at several dilations; a 3 x 3 convolution
    fuses them to (batch, out_channels, height, width).
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(self._branch(in_channels, out_channels, dilation) for dilation in dilations)
        self.bottleneck = ConvNormAct(len(dilations) * out_channels, out_channels, kernel_size=3)

    @staticmethod
    def _branch(in_channels: int, out_channels: int, dilation: int) -> nn.Module:
        if dilation == 1:
            return ConvNormAct(in_channels, out_channels, kernel_size=1)
        depthwise = ConvNormAct(in_channels, in_channels, kernel_size=3, dilation=dilation, groups=in_channels)
        return nn.Sequential(depthwise, ConvNormAct(in_channels, out_channels, kernel_size=1))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the fused map, (batch, out_channels, height, width)."""
        return self.bottleneck(torch.cat([branch(hidden_states) for branch in self.branches], dim=1))


class DaformerDecodeHead(nn.Module):
    """Embed every stage, bring all to the first stage's size, fuse, classify.

    Args:
        in_channels: Channels of each stage of the encoder, finest first.
        hidden_size: Channels of the embeddings and of the fused map.
        num_labels: Channels of the logits.
        fusion: From (batch, stages * hidden_size, height, width) to (batch, hidden_size, height, width):
            `SeparableAspp` in DAFormer, one `ConvNormAct` in HRDA's scale attention.
        dropout: Probability with which a channel of the fused map is dropped.
    """

    def __init__(
        self, in_channels: Sequence[int], hidden_size: int, num_labels: int, fusion: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Linear(channels, hidden_size) for channels in in_channels)
        self.fusion = fusion
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(hidden_size, num_labels, kernel_size=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_labels, height, width) at the stride of the first of the `features`."""
        size = features[0].shape[-2:]
        embedded = [
            F.interpolate(self._embed(linear, feature), size=size, mode="bilinear", align_corners=False)
            for linear, feature in zip(self.embeddings, features, strict=True)
        ]
        return self.classifier(self.dropout(self.fusion(torch.cat(embedded, dim=1))))

    @staticmethod
    def _embed(linear: nn.Module, feature: Tensor) -> Tensor:
        return linear(feature.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DaformerPreTrainedModel(SegmenterPreTrainedModel):
    """What `transformers` wants to know of DAFormer."""

    config: DaformerConfig
    config_class = DaformerConfig
    base_model_prefix = "segformer"
    _no_split_modules = ("SegformerStage",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True


class DaformerForSemanticSegmentation(DaformerPreTrainedModel):
    """DAFormer, as published: `logits = decode(encode(pixel_values))`.

    The encoder is called `segformer`, so that ImageNet checkpoints such as `nvidia/mit-b5` load into it.
    """

    def __init__(self, config: DaformerConfig) -> None:
        super().__init__(config)
        self.segformer = MixTransformer(config.backbone_config)
        hidden_sizes, hidden_size = config.backbone_config.hidden_sizes, config.decoder_hidden_size
        self.decode_head = DaformerDecodeHead(
            hidden_sizes,
            hidden_size,
            config.num_labels,
            fusion=SeparableAspp(len(hidden_sizes) * hidden_size, hidden_size, config.dilations),
            dropout=config.classifier_dropout_prob,
        )
        self.post_init()

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of what `encode` returns, finest stage first."""
        return tuple(self.config.backbone_config.hidden_sizes)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of what `encode` returns with respect to the image, finest stage first."""
        return stage_strides(self.config.backbone_config)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return the stages' features, finest first: (batch, channels, ceil(height / stride), ceil(width / stride)).

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
        """
        return self.segformer(pixel_values, output_hidden_states=True).hidden_states

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_labels, height / 4, width / 4) of what `encode` returned."""
        return self.decode_head(features)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SemanticSegmenterOutput:
        """Segment images.

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
            labels: Class of every pixel, (batch, height, width), or `config.semantic_loss_ignore_index`.
            output_hidden_states: Whether to return the stages' features as `hidden_states`.
            kwargs: What `MixTransformer` takes, such as `output_attentions`.

        Returns:
            `logits` at stride 4 and, with `labels`, the mean cross entropy `loss` of the logits at full size.
        """
        outputs = self.segformer(pixel_values, output_hidden_states=True, **kwargs)
        logits = self.decode(outputs.hidden_states)
        loss = None
        if labels is not None:
            loss = upsampled_cross_entropy(logits, labels, self.config.semantic_loss_ignore_index)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return SemanticSegmenterOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states if output_hidden_states else None,
            attentions=outputs.attentions,
        )


__all__ = ["DaformerForSemanticSegmentation", "DaformerPreTrainedModel"]
