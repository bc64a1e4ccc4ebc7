"""The published encoders, recognised by their sizes."""

from __future__ import annotations

from transformers import PretrainedConfig, ResNetConfig, SegformerConfig

from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.dilated_resnet import RESNETS
from mfm_hf.models.mix_transformer import MIX_TRANSFORMERS

MIX_TRANSFORMER_EPS = 1e-6
"""Epsilon of the LayerNorms in the blocks and after the stages, in all reference code bases."""


def published_attention_heads(hidden_sizes: list[int]) -> list[int] | None:
    """Return the attention heads of the published Mix Transformers of these widths, or None if there is none."""
    configs = (SegformerConfig(**MIX_TRANSFORMERS[name]) for name in MIX_TRANSFORMERS if name.startswith("mit-"))
    return next(
        (list(config.num_attention_heads) for config in configs if list(config.hidden_sizes) == hidden_sizes), None
    )


def encoder_name(config: PretrainedConfig) -> str:
    """Return the published name of the encoder in a network's config, or one that tells its depths."""
    if isinstance(config, HrdaConfig):
        return encoder_name(config.base_config)
    if isinstance(config, DaformerConfig | DeepLabV2Config):
        return encoder_name(config.backbone_config)
    known, kind = (RESNETS, ResNetConfig) if isinstance(config, ResNetConfig) else (MIX_TRANSFORMERS, SegformerConfig)
    for name, arguments in known.items():
        published = kind(**arguments)
        if (list(published.hidden_sizes), list(published.depths)) == (list(config.hidden_sizes), list(config.depths)):
            return name
    return f"an encoder of depths {list(config.depths)}"
