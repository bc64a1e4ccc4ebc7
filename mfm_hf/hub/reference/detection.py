"""Telling which network a reference state dict belongs to, from its names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
)

from mfm_hf.hub.reference.checkpoint import CheckpointError
from mfm_hf.hub.reference.names import HeadLayout, name_table
from mfm_hf.hub.reference.network import Network
from mfm_hf.hub.reference.presets import MIX_TRANSFORMER_EPS, published_attention_heads
from mfm_hf.hub.reference.settings import Settings
from mfm_hf.hub.reference.shapes import Shapes
from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import FOUR_BRANCHES, TWO_BRANCHES, DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation

_SEGMENTERS: dict[type[PretrainedConfig], type[PreTrainedModel]] = {
    SegformerConfig: SegformerForSemanticSegmentation,
    DaformerConfig: DaformerForSemanticSegmentation,
    DeepLabV2Config: DeepLabV2ForSemanticSegmentation,
    HrdaConfig: HrdaForSemanticSegmentation,
}
_DAFORMER_DILATIONS = [1, 6, 12, 18]
_DEEPLABV2_DILATIONS = {len(dilations): list(dilations) for dilations in (TWO_BRANCHES, FOUR_BRANCHES)}


def detect_network(tensors: Mapping[str, Tensor], settings: Settings) -> Network:
    """Tell the network of a reference state dict.

    Args:
        tensors: The state dict of one network, without the prefix of a training module.
        settings: What shapes cannot tell, where it differs from the published networks.

    Raises:
        CheckpointError: The network is unknown, refused, or lacks a part, or a setting is missing or wrong.
    """
    shapes = Shapes(tensors)
    _refuse_others(shapes)
    network = _segmenter(shapes, settings) if shapes.below("backbone.") else _encoder(shapes, settings)
    settings.check_all_asked()
    return network


def _refuse_others(shapes: Shapes) -> None:
    if shapes.below("layer5.conv2d_list."):
        raise CheckpointError(
            "this is the network of vikolss/DACS (and AdaptSegNet), a DeepLab-V2 that differs from that of DAFormer, "
            "HRDA and MIC in its stem, strides, pooling and upsampling: convert a DACS model that was trained in "
            "lhoyer/DAFormer or lhoyer/MIC"
        )
    if shapes.below("backbone.layers."):
        raise CheckpointError(
            "this is a MiT of open-mmlab's own mmsegmentation, whose modules have other names: convert the checkpoint "
            "of NVlabs/SegFormer or of lhoyer/DAFormer, HRDA or MIC"
        )
    if shapes.below("segformer."):
        raise CheckpointError("these are weights of transformers already: put them beside their config.json")


def _segmenter(shapes: Shapes, settings: Settings) -> Network:
    if not shapes.below("decode_head.scale_attention."):
        layout, config = _single_scale_config(shapes, shapes.below("decode_head."), settings)
        return _network(config, layout)
    _, base = _single_scale_config(shapes, shapes.below("decode_head.head."), settings)
    attention = shapes.below("decode_head.scale_attention.")
    crop_size = settings.integers("detail_crop_size", 2, [512, 512])
    config = HrdaConfig(
        base_config=base,
        context_scale=settings.number("context_scale", 0.5),
        detail_crop_size=crop_size,
        detail_stride=settings.integers("detail_stride", 2, [length // 2 for length in crop_size]),
        num_labels=base.num_labels,
    )
    if isinstance(base, DaformerConfig):
        config.attention_hidden_size, _ = attention.of("embed_layers.0.proj.weight", 2)
    return _network(config)


def _single_scale_config(shapes: Shapes, head: Shapes, settings: Settings) -> tuple[HeadLayout, PretrainedConfig]:
    """Return the layout of the head, and the config of the network whose encoder lies under `backbone.`."""
    encoder = shapes.below("backbone.")
    if "embed_layers.0.proj.weight" in head:
        return "mmseg", _daformer_config(encoder, head, settings)
    if "linear_fuse.conv.weight" in head:
        layout: HeadLayout = "nvlabs" if "linear_c1.proj.weight" in head else "mmseg"
        return layout, _segformer_config(encoder, head, settings)
    if "aspp_modules.0.conv.bias" in head:
        return "mmseg", _deeplabv2_config(encoder, head, settings)
    raise CheckpointError("the decode head is none of DAFormer, SegFormer and DeepLab-V2, alone or in HRDA")


def _daformer_config(encoder: Shapes, head: Shapes, settings: Settings) -> DaformerConfig:
    branches = head.count("fuse_layer.aspp_modules.")
    if not branches:
        raise CheckpointError("this DAFormer head has no 'fuse_layer.aspp_modules': only its fusion by ASPP is known")
    hidden_size, _ = head.of("embed_layers.0.proj.weight", 2)
    num_labels, *_ = head.of("conv_seg.weight", 4)
    return DaformerConfig(
        backbone_config=SegformerConfig(**_mix_transformer(encoder, settings)),
        decoder_hidden_size=hidden_size,
        dilations=settings.integers("dilations", branches, _DAFORMER_DILATIONS if branches == 4 else None),
        num_labels=num_labels,
    )


def _segformer_config(encoder: Shapes, head: Shapes, settings: Settings) -> SegformerConfig:
    hidden_size, *_ = head.of("linear_fuse.conv.weight", 4)
    num_labels, *_ = head.of("linear_pred.weight", 4)
    return SegformerConfig(
        **_mix_transformer(encoder, settings), decoder_hidden_size=hidden_size, num_labels=num_labels
    )


def _deeplabv2_config(encoder: Shapes, head: Shapes, settings: Settings) -> DeepLabV2Config:
    branches = head.count("aspp_modules.")
    num_labels, *_ = head.of("aspp_modules.0.conv.weight", 4)
    return DeepLabV2Config(
        backbone_config=_resnet_config(encoder),
        stem=_stem(encoder),
        contract_dilation=settings.boolean("contract_dilation", True),
        dilations=settings.integers("dilations", branches, _DEEPLABV2_DILATIONS.get(branches)),
        num_labels=num_labels,
    )


def _encoder(shapes: Shapes, settings: Settings) -> Network:
    """Return the ImageNet classifier of a bare encoder file; DeepLab-V2 for a deep stem, which no classifier has."""
    if "patch_embed1.proj.weight" in shapes:
        config = SegformerConfig(**_mix_transformer(shapes, settings))
        return _classifier(SegformerForImageClassification, config, shapes, "head.weight")
    if "layer1.0.conv1.weight" not in shapes:
        raise CheckpointError(
            "this is no network of DACS, DAFormer, HRDA, MIC or SegFormer, and no MiT or ResNet: it has neither "
            "'backbone.' nor 'patch_embed1.' nor 'layer1.0.conv1.' among its names"
        )
    if _stem(shapes) == "plain":
        return _classifier(ResNetForImageClassification, _resnet_config(shapes), shapes, "fc.weight")
    network = _network(DeepLabV2Config(backbone_config=_resnet_config(shapes), stem="deep"), encoder_only=True)
    if "fc.weight" not in shapes:
        return network
    classes, channels = shapes.of("fc.weight", 2)
    unused = {"fc.weight": (classes, channels), "fc.bias": (classes,)}
    return replace(network, table=replace(network.table, unused=unused))


def _mix_transformer(shapes: Shapes, settings: Settings) -> dict[str, Any]:
    """Return the fields of a MiT's `SegformerConfig`."""
    stages = 1
    while f"patch_embed{stages + 1}.proj.weight" in shapes:
        stages += 1
    kernels = [shapes.of(f"patch_embed{stage + 1}.proj.weight", 4) for stage in range(stages)]
    blocks = [shapes.below(f"block{stage + 1}.0.") for stage in range(stages)]
    hidden_sizes = [kernel[0] for kernel in kernels]
    heads = settings.integers("num_attention_heads", stages, published_attention_heads(hidden_sizes))
    for hidden_size, count in zip(hidden_sizes, heads, strict=True):
        if hidden_size % count:
            raise CheckpointError(f"--set num_attention_heads: {count} heads do not divide {hidden_size} channels")
    return {
        "num_encoder_blocks": stages,
        "num_channels": kernels[0][1],
        "depths": [shapes.count(f"block{stage + 1}.") for stage in range(stages)],
        "hidden_sizes": hidden_sizes,
        "patch_sizes": [kernel[2] for kernel in kernels],
        "strides": [4] + [2] * (stages - 1),
        "sr_ratios": [block.of("attn.sr.weight", 4)[2] if "attn.sr.weight" in block else 1 for block in blocks],
        "mlp_ratios": [
            block.of("mlp.fc1.weight", 2)[0] // size for block, size in zip(blocks, hidden_sizes, strict=True)
        ],
        "num_attention_heads": heads,
        "layer_norm_eps": MIX_TRANSFORMER_EPS,
    }


def _resnet_config(shapes: Shapes) -> ResNetConfig:
    stages = [shapes.below(f"layer{stage + 1}.") for stage in range(4)]
    if "0.conv3.weight" not in stages[0]:
        raise CheckpointError("this ResNet has no bottleneck blocks: convert ResNet-50 or ResNet-101")
    stem_channels = shapes.of("stem.6.weight" if _stem(shapes) == "deep" else "conv1.weight", 4)[0]
    return ResNetConfig(
        embedding_size=stem_channels,
        hidden_sizes=[stage.of("0.conv3.weight", 4)[0] for stage in stages],
        depths=[stage.count("") for stage in stages],
    )


def _stem(shapes: Shapes) -> Literal["plain", "deep"]:
    return "deep" if "stem.0.weight" in shapes else "plain"


def _classifier(model_class: type[PreTrainedModel], config: PretrainedConfig, shapes: Shapes, weight: str) -> Network:
    if weight in shapes:
        config.num_labels, _ = shapes.of(weight, 2)
    with torch.device("meta"):
        model = model_class(config)
    encoder_only = weight not in shapes
    return Network(model, name_table(model, encoder_only=encoder_only), encoder_only)


def _network(config: PretrainedConfig, layout: HeadLayout = "mmseg", encoder_only: bool = False) -> Network:
    with torch.device("meta"):
        model = _SEGMENTERS[type(config)](config)
    return Network(model, name_table(model, layout, encoder_only), encoder_only)
