"""DeepLab-V2: a dilated ResNet and parallel dilated classifiers whose logits are summed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils.generic import can_return_tuple

from .configuration_deeplabv2 import DeepLabV2Config
from .dilated_resnet import DilatedResNet
from .segmenter import SegmenterPreTrainedModel, upsampled_cross_entropy


class DeepLabV2DecodeHead(nn.Module):
    """Parallel 3 x 3 convolutions of several dilations, each a classifier of its own; their logits are summed.

    Args:
        in_channels: Channels of the encoder's last stage.
        num_labels: Channels of the logits.
        dilations: Dilation of each convolution.
    """

    def __init__(self, in_channels: int, num_labels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, num_labels, kernel_size=3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_labels, height, width) at the stride of the last of the `features`."""
        first, *others = self.branches
        logits = first(features[-1])
        for branch in others:
            logits = logits + branch(features[-1])
        return logits


class DeepLabV2PreTrainedModel(SegmenterPreTrainedModel):
    """What `transformers` wants to know of DeepLab-V2."""

    config: DeepLabV2Config
    config_class = DeepLabV2Config
    base_model_prefix = "resnet"
    _no_split_modules = ("ResNetBottleNeckLayer",)


class DeepLabV2ForSemanticSegmentation(DeepLabV2PreTrainedModel):
    """DeepLab-V2, as in DACS and the references: `logits = decode(encode(pixel_values))`.

    The encoder is called `resnet`, so that ImageNet checkpoints such as `microsoft/resnet-101` load into it.
    """

    def __init__(self, config: DeepLabV2Config) -> None:
        super().__init__(config)
        self.resnet = DilatedResNet(
            config.backbone_config,
            deep_stem=config.stem == "deep",
            output_stride=config.output_stride,
            contract_dilation=config.contract_dilation,
        )
        self.decode_head = DeepLabV2DecodeHead(
            config.backbone_config.hidden_sizes[-1], config.num_labels, config.dilations
        )
        self.post_init()

    @property
    def feature_channels(self) -> tuple[int]:
        """Channels of the one map that `encode` returns."""
        return (self.config.backbone_config.hidden_sizes[-1],)

    @property
    def feature_strides(self) -> tuple[int]:
        """Stride of the one map that `encode` returns with respect to the image."""
        return (self.config.output_stride,)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor]:
        """Return what the decoder reads, the last stage's features alone.

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).

        Returns:
            One map, (batch, channels, ceil(height / stride), ceil(width / stride)).
        """
        return (self.resnet(pixel_values)[-1],)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_labels, height, width) at the stride of what `encode` returned."""
        return self.decode_head(features)

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, output_hidden_states: bool | None = None
    ) -> SemanticSegmenterOutput:
        """Segment images.

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
            labels: Class of every pixel, (batch, height, width), or `config.semantic_loss_ignore_index`.
            output_hidden_states: Whether to return the features of all four stages as `hidden_states`.

        Returns:
            `logits` at stride 8 and, with `labels`, the mean cross entropy `loss` of the logits at full size.
        """
        hidden_states = self.resnet(pixel_values)
        logits = self.decode(hidden_states[-1:])
        loss = None
        if labels is not None:
            loss = upsampled_cross_entropy(logits, labels, self.config.semantic_loss_ignore_index)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return SemanticSegmenterOutput(
            loss=loss, logits=logits, hidden_states=hidden_states if output_hidden_states else None
        )


__all__ = ["DeepLabV2DecodeHead", "DeepLabV2ForSemanticSegmentation", "DeepLabV2PreTrainedModel"]
