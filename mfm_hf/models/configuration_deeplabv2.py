"""Configuration of DeepLab-V2."""

from __future__ import annotations

from typing import Any, Literal

from transformers import PretrainedConfig, ResNetConfig

#: The head of all DeepLab-V2 numbers that DACS, DAFormer, HRDA and MIC publish (`dlv2red` in lhoyer/MIC): the original
#: DACS network holds four branches, but returns after the second.
TWO_BRANCHES = (6, 12)
#: The head of the DeepLab-V2 paper (Chen et al., TPAMI 2018, section 3.2; `dlv2` in lhoyer/MIC).
FOUR_BRANCHES = (6, 12, 18, 24)


class DeepLabV2Config(PretrainedConfig):
    """A dilated ResNet with the summed parallel classifiers of DeepLab-V2 (Chen et al., TPAMI 2018).

    Args:
        backbone_config: The encoder, as for `ResNetModel`. Default: ResNet-101.
        stem: `plain` is one 7 x 7 convolution, as in `microsoft/resnet-101` and torchvision; `deep` is three 3 x 3
            convolutions, the first two with half the channels (`ResNetV1c` in mmsegmentation, so in the references).
        output_stride: Stride of the last stage, and so of the logits: 8, 16, or 32 for an undilated ResNet.
        contract_dilation: Whether the first block of a dilated stage keeps the dilation of the stage before, as in the
            references and in torchvision.
        dilations: Dilation of each parallel classifier: `TWO_BRANCHES`, `FOUR_BRANCHES` or any others.
        semantic_loss_ignore_index: Label of the pixels that the loss leaves out.

    Raises:
        ValueError: An unknown stem or output stride, or a ResNet with basic blocks or a strided first stage.
    """

    model_type = "deeplabv2"
    sub_configs = {"backbone_config": ResNetConfig}

    def __init__(
        self,
        backbone_config: ResNetConfig | dict[str, Any] | None = None,
        stem: Literal["plain", "deep"] = "plain",
        output_stride: int = 8,
        contract_dilation: bool = True,
        dilations: tuple[int, ...] | list[int] = TWO_BRANCHES,
        semantic_loss_ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        if backbone_config is None:
            backbone_config = ResNetConfig(depths=[3, 4, 23, 3])
        self.backbone_config = ResNetConfig(**backbone_config) if isinstance(backbone_config, dict) else backbone_config
        if stem not in ("plain", "deep"):
            raise ValueError(f"stem must be 'plain' or 'deep', not {stem!r}")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32, not {output_stride}")
        if self.backbone_config.layer_type != "bottleneck":
            raise ValueError("DeepLab-V2 needs a ResNet with bottleneck blocks, such as ResNet-50 or ResNet-101")
        if self.backbone_config.downsample_in_first_stage:
            raise ValueError(
                "DeepLab-V2 needs a ResNet whose first stage has stride 4: set downsample_in_first_stage=False"
            )
        self.stem = stem
        self.output_stride = output_stride
        self.contract_dilation = contract_dilation
        self.dilations = list(dilations)
        self.semantic_loss_ignore_index = semantic_loss_ignore_index
        super().__init__(**kwargs)


__all__ = ["FOUR_BRANCHES", "TWO_BRANCHES", "DeepLabV2Config"]
