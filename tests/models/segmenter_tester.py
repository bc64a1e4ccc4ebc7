"""One tiny network of every architecture. A new one is tested by adding it to `SEGMENTERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, ResNetConfig, SegformerConfig, SegformerForSemanticSegmentation

from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation

NUM_LABELS = 5


@dataclass(frozen=True)
class Segmenter:
    """What the tests have to know of an architecture.

    Args:
        build: Makes the network with random weights, in train mode.
        stride: Stride of its logits.
        hidden_strides: Stride of every hidden state with respect to the full image.
        has_attention: Whether the attention implementation can be chosen.
    """

    build: Callable[[], PreTrainedModel]
    stride: int
    hidden_strides: tuple[int, ...]
    has_attention: bool = True


def segformer_config() -> SegformerConfig:
    return SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
        num_labels=NUM_LABELS,
    )


def daformer_config() -> DaformerConfig:
    return DaformerConfig(
        segformer_config(), decoder_hidden_size=16, classifier_dropout_prob=0.0, num_labels=NUM_LABELS
    )


def deeplabv2_config(stem: str = "plain") -> DeepLabV2Config:
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 2, 2])
    return DeepLabV2Config(resnet, stem=stem, num_labels=NUM_LABELS)


def hrda_config(base_config: SegformerConfig | DaformerConfig | DeepLabV2Config) -> HrdaConfig:
    # The images of these tests stand for training crops, which no window divides.
    return HrdaConfig(base_config, detail_crop_size=(32, 32), attention_hidden_size=8, window_size=None)


MIT_STRIDES = (4, 8, 16, 32)
SEGMENTERS = {
    "segformer": Segmenter(lambda: SegformerForSemanticSegmentation(segformer_config()), 4, MIT_STRIDES),
    "daformer": Segmenter(lambda: DaformerForSemanticSegmentation(daformer_config()), 4, MIT_STRIDES),
    "deeplabv2": Segmenter(
        lambda: DeepLabV2ForSemanticSegmentation(deeplabv2_config()), 8, (4, 8, 8, 8), has_attention=False
    ),
    "deeplabv2_deep_stem": Segmenter(
        lambda: DeepLabV2ForSemanticSegmentation(deeplabv2_config(stem="deep")), 8, (4, 8, 8, 8), has_attention=False
    ),
    "hrda_segformer": Segmenter(
        lambda: HrdaForSemanticSegmentation(hrda_config(segformer_config())), 4, (8, 16, 32, 64)
    ),
    "hrda_daformer": Segmenter(lambda: HrdaForSemanticSegmentation(hrda_config(daformer_config())), 4, (8, 16, 32, 64)),
    "hrda_deeplabv2": Segmenter(
        lambda: HrdaForSemanticSegmentation(hrda_config(deeplabv2_config())), 8, (16,), has_attention=False
    ),
}


def images(height: int = 64, width: int = 96, batch_size: int = 2) -> torch.Tensor:
    """Random images, (batch_size, 3, height, width), always the same ones."""
    return torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(0))


def labels(height: int = 64, width: int = 96, batch_size: int = 2) -> torch.Tensor:
    """Random classes, (batch_size, height, width), always the same ones, with a corner that is ignored."""
    drawn = torch.randint(NUM_LABELS, (batch_size, height, width), generator=torch.Generator().manual_seed(0))
    drawn[:, :20, :20] = 255
    return drawn
