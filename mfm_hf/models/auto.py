"""Tell the Auto classes of `transformers` about our networks."""

from __future__ import annotations

from functools import cache

from transformers import AutoConfig, AutoModelForSemanticSegmentation
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from .configuration_daformer import DaformerConfig
from .configuration_deeplabv2 import DeepLabV2Config
from .configuration_hrda import HrdaConfig
from .modeling_daformer import DaformerForSemanticSegmentation
from .modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from .modeling_hrda import HrdaForSemanticSegmentation

_SEGMENTERS = (
    (DaformerConfig, DaformerForSemanticSegmentation),
    (DeepLabV2Config, DeepLabV2ForSemanticSegmentation),
    (HrdaConfig, HrdaForSemanticSegmentation),
)


@cache
def register() -> None:
    """Let `AutoConfig`, `AutoModelForSemanticSegmentation` and `pipeline` know our model types. Once is enough."""
    for config, model in _SEGMENTERS:
        AutoConfig.register(config.model_type, config)
        AutoModelForSemanticSegmentation.register(config, model)
        # The pipeline checks this table of names alone, and logs an error for classes that it does not hold.
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES[config.model_type] = model.__name__
