"""Small real networks, for tests."""

from transformers import PretrainedConfig, ResNetConfig, SegformerConfig

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig
from mfm_hf.mfm.modeling_mfm import (
    DaformerForDomainAdaptation,
    DeepLabV2ForDomainAdaptation,
    DomainAdaptationModel,
    HrdaForDomainAdaptation,
    SegformerForDomainAdaptation,
)
from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig

REBUILDER = RebuilderConfig(dim=32, num_heads=4, grid_size=(4, 6))
MODELS = ("segformer", "daformer", "deeplabv2", "hrda", "hrda_deeplabv2")


def encoder_config(**kwargs: object) -> SegformerConfig:
    sizes = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]}
    return SegformerConfig(**sizes, decoder_hidden_size=16, **kwargs)


def daformer_config(**kwargs: object) -> DaformerConfig:
    return DaformerConfig(backbone_config=encoder_config(), decoder_hidden_size=16, **kwargs)


def deeplabv2_config(**kwargs: object) -> DeepLabV2Config:
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1])
    return DeepLabV2Config(backbone_config=resnet, **kwargs)


def hrda_config(base: PretrainedConfig, **kwargs: object) -> HrdaConfig:
    """Without windows, so that `forward` is `decode(encode(...))` for images of any size."""
    return HrdaConfig(base_config=base, detail_crop_size=(32, 32), window_size=None, attention_hidden_size=16, **kwargs)


def tiny_model(name: str = "segformer", rebuilder: RebuilderConfig | None = REBUILDER) -> DomainAdaptationModel:
    named = {"id2label": CITYSCAPES.id2label, "label2id": CITYSCAPES.label2id}
    match name:
        case "segformer":
            return SegformerForDomainAdaptation(encoder_config(**named), rebuilder)
        case "daformer":
            return DaformerForDomainAdaptation(daformer_config(**named), rebuilder)
        case "deeplabv2":
            return DeepLabV2ForDomainAdaptation(deeplabv2_config(**named), rebuilder)
        case "hrda":
            return HrdaForDomainAdaptation(hrda_config(daformer_config(), **named), rebuilder)
        case "hrda_deeplabv2":
            return HrdaForDomainAdaptation(hrda_config(deeplabv2_config(), **named), rebuilder)
    raise ValueError(name)
