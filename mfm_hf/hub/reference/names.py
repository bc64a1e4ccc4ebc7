"""What the reference code bases call the modules of our networks.

Our side are the names in memory: what `model.state_dict()` gives. The modules stand in the reference's order.

Sources: `mmseg/models/` in lhoyer/MIC (which holds DACS, DAFormer and HRDA too) and in NVlabs/SegFormer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from transformers import (
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
)

from mfm_hf.hub.reference.name_table import Module, NameTable, ReversedModule, StackedModule, prefixed
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation

HeadLayout = Literal["mmseg", "nvlabs"]
"""The two SegFormer heads: the mmseg fork concatenates the stages finest first, NVlabs deepest first."""

UNUSED_HEAD_CHANNELS = 128  # of SegFormer's `conv_seg`, which no code base ever reads


def name_table(model: PreTrainedModel, layout: HeadLayout = "mmseg", encoder_only: bool = False) -> NameTable:
    """Return the table of a model's modules.

    Args:
        model: One of our segmenters, or an ImageNet classifier with one of their encoders.
        layout: Which SegFormer head the reference has; the other networks exist in one layout.
        encoder_only: Whether the reference is a file with an ImageNet encoder alone, without any head.

    Raises:
        ValueError: If the reference code bases have no such network.
    """
    if encoder_only:
        return NameTable(tuple(_encoder(model, "", f"{model.base_model_prefix}.")))
    match model:
        case SegformerForImageClassification():
            return NameTable((*_encoder(model, "", "segformer."), Module("head", ("classifier",))))
        case ResNetForImageClassification():
            return NameTable((*_encoder(model, "", "resnet."), Module("fc", ("classifier.1",))))
        case HrdaForSemanticSegmentation():
            encoder = _encoder(model.base, "backbone.", f"base.{model.base.base_model_prefix}.")
            head = _head(model.base, "decode_head.head.", "base.decode_head.")
            attention = _scale_attention(model.base, "decode_head.scale_attention.", "scale_attention.")
            return NameTable((*encoder, *head, *attention))
        case SegformerForSemanticSegmentation():
            channels, classes = UNUSED_HEAD_CHANNELS, model.config.num_labels
            unused = {"decode_head.conv_seg.weight": (classes, channels, 1, 1), "decode_head.conv_seg.bias": (classes,)}
            head = _SEGFORMER_HEADS[layout](len(model.config.hidden_sizes))
            return NameTable((*_encoder(model, "backbone.", "segformer."), *head), unused)
        case _:
            head = _head(model, "decode_head.", "decode_head.")
            return NameTable((*_encoder(model, "backbone.", f"{model.base_model_prefix}."), *head))


def _encoder(model: PreTrainedModel, reference: str, ours: str) -> Iterator[Module]:
    match model:
        case DaformerForSemanticSegmentation():
            modules = _mix_transformer(model.config.backbone_config)
        case DeepLabV2ForSemanticSegmentation():
            modules = _resnet(model.config.backbone_config, deep_stem=model.config.stem == "deep")
        case ResNetForImageClassification():
            modules = _resnet(model.config, deep_stem=False)
        case SegformerForSemanticSegmentation() | SegformerForImageClassification():
            modules = _mix_transformer(model.config)
        case _:
            raise ValueError(f"the reference code bases have no {type(model).__name__}")
    return prefixed(modules, reference, ours)


def _head(model: PreTrainedModel, reference: str, ours: str) -> Iterator[Module]:
    """The head of a model that HRDA may have inside."""
    match model:
        case DaformerForSemanticSegmentation():
            modules = _daformer_head(model.config.dilations, len(model.config.backbone_config.hidden_sizes))
        case DeepLabV2ForSemanticSegmentation():
            modules = _deeplabv2_head(len(model.config.dilations))
        case _:
            raise ValueError(f"the reference code bases have no HRDA over {model.config.model_type}")
    return prefixed(modules, reference, ours)


def _scale_attention(base: PreTrainedModel, reference: str, ours: str) -> Iterator[Module]:
    match base:
        case DaformerForSemanticSegmentation():
            modules = _light_daformer_head(len(base.config.backbone_config.hidden_sizes))
        case _:
            modules = _deeplabv2_head(len(base.config.dilations))
    return prefixed(modules, reference, ours)


def _mix_transformer(config: SegformerConfig) -> Iterator[Module]:
    """`backbones/mix_transformer.py`; its stages count from 1."""
    for stage in range(len(config.depths)):
        yield Module(f"patch_embed{stage + 1}.proj", (f"stages.{stage}.patch_embeddings.proj",))
        yield Module(f"patch_embed{stage + 1}.norm", (f"stages.{stage}.patch_embeddings.layer_norm",))
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            modules = _mix_transformer_block(reduced=config.sr_ratios[stage] > 1)
            yield from prefixed(modules, f"block{stage + 1}.{block}.", f"stages.{stage}.blocks.{block}.")
        yield Module(f"norm{stage + 1}", (f"stages.{stage}.layer_norm",))


def _mix_transformer_block(reduced: bool) -> Iterator[Module]:
    yield Module("norm1", ("layernorm_before",))
    yield Module("attn.q", ("attention.q_proj",))
    yield StackedModule("attn.kv", ("attention.k_proj", "attention.v_proj"))
    yield Module("attn.proj", ("attention.o_proj",))
    if reduced:
        yield Module("attn.sr", ("attention.sequence_reduction.sequence_reduction",))
        yield Module("attn.norm", ("attention.sequence_reduction.layer_norm",))
    yield Module("norm2", ("layernorm_after",))
    yield Module("mlp.fc1", ("mlp.fc1",))
    yield Module("mlp.dwconv.dwconv", ("mlp.dwconv.dwconv",))
    yield Module("mlp.fc2", ("mlp.fc2",))


def _resnet(config: ResNetConfig, deep_stem: bool) -> Iterator[Module]:
    """`ResNetV1c` (deep stem) or `ResNet` in mmsegmentation, the latter with the names of torchvision."""
    if deep_stem:
        for layer in range(3):  # of a Sequential that counts the activations too
            yield Module(f"stem.{3 * layer}", (f"embedder.embedder.{layer}.convolution",))
            yield Module(f"stem.{3 * layer + 1}", (f"embedder.embedder.{layer}.normalization",))
    else:
        yield Module("conv1", ("embedder.embedder.convolution",))
        yield Module("bn1", ("embedder.embedder.normalization",))
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            modules = _resnet_block(shortcut=block == 0)
            yield from prefixed(modules, f"layer{stage + 1}.{block}.", f"encoder.stages.{stage}.layers.{block}.")


def _resnet_block(shortcut: bool) -> Iterator[Module]:
    for layer in range(3):
        yield Module(f"conv{layer + 1}", (f"layer.{layer}.convolution",))
        yield Module(f"bn{layer + 1}", (f"layer.{layer}.normalization",))
    if shortcut:
        yield Module("downsample.0", ("shortcut.convolution",))
        yield Module("downsample.1", ("shortcut.normalization",))


def _daformer_head(dilations: Sequence[int], stages: int) -> Iterator[Module]:
    """`decode_heads/daformer_head.py` with separable ASPP."""
    yield from _daformer_embeddings(stages)
    for branch, dilation in enumerate(dilations):
        reference, ours = f"fuse_layer.aspp_modules.{branch}.", f"fusion.branches.{branch}."
        if dilation == 1:
            yield from _conv_module(reference, ours)
        else:
            yield from _conv_module(f"{reference}depthwise_conv.", f"{ours}0.")
            yield from _conv_module(f"{reference}pointwise_conv.", f"{ours}1.")
    yield from _conv_module("fuse_layer.bottleneck.", "fusion.bottleneck.")


def _light_daformer_head(stages: int) -> Iterator[Module]:
    """The scale attention of `decode_heads/hrda_head.py`: a DAFormer head whose fusion is one convolution."""
    yield from _daformer_embeddings(stages)
    yield from _conv_module("fuse_layer.", "fusion.")


def _daformer_embeddings(stages: int) -> Iterator[Module]:
    yield Module("conv_seg", ("classifier",))
    for stage in range(stages):
        yield Module(f"embed_layers.{stage}.proj", (f"embeddings.{stage}",))


def _conv_module(reference: str, ours: str) -> Iterator[Module]:
    yield Module(f"{reference}conv", (f"{ours}conv",))
    yield Module(f"{reference}bn", (f"{ours}batch_norm",))


def _deeplabv2_head(branches: int) -> Iterator[Module]:
    """`decode_heads/dlv2_head.py`."""
    for branch in range(branches):
        yield Module(f"aspp_modules.{branch}.conv", (f"branches.{branch}",))


def _mmseg_segformer_head(stages: int) -> Iterator[Module]:
    """`decode_heads/segformer_head.py` in lhoyer/MIC."""
    for stage in range(stages):
        yield Module(f"decode_head.linear_c.{stage}.proj", (f"decode_head.linear_projections.{stage}.proj",))
    yield ReversedModule("decode_head.linear_fuse.conv", ("decode_head.linear_fuse",), stages)
    yield from _segformer_classifier()


def _nvlabs_segformer_head(stages: int) -> Iterator[Module]:
    """`decode_heads/segformer_head.py` in NVlabs/SegFormer, whose order transformers keeps."""
    for stage in reversed(range(stages)):
        yield Module(f"decode_head.linear_c{stage + 1}.proj", (f"decode_head.linear_projections.{stage}.proj",))
    yield Module("decode_head.linear_fuse.conv", ("decode_head.linear_fuse",))
    yield from _segformer_classifier()


def _segformer_classifier() -> Iterator[Module]:
    yield Module("decode_head.linear_fuse.bn", ("decode_head.batch_norm",))
    yield Module("decode_head.linear_pred", ("decode_head.classifier",))


_SEGFORMER_HEADS = {"mmseg": _mmseg_segformer_head, "nvlabs": _nvlabs_segformer_head}
