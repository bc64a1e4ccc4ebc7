"""Unsupervised domain adaptation of semantic segmentation with Masked Feature Modeling, for Hugging Face Transformers.

    from mfm_hf import AutoModelForDomainAdaptation, RebuilderConfig

    model = AutoModelForDomainAdaptation.from_pretrained("nvidia/mit-b5", head="daformer", rebuilder=RebuilderConfig())
    features = model.encode(pixel_values)
    logits = model.decode(model.rebuild(features))

Importing the package tells the Auto classes of `transformers` about DAFormer, DeepLab-V2 and HRDA. The names below are
imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from mfm_hf._version import __version__
from mfm_hf.models.auto import register

_HOMES = {
    "mfm_hf.data.domain": ("Domain", "Example"),
    "mfm_hf.data.domains": ("load_domain",),
    "mfm_hf.evaluation.evaluator": ("evaluate_model",),
    "mfm_hf.evaluation.mean_iou": ("MeanIoU",),
    "mfm_hf.mfm.auto": ("AutoModelForDomainAdaptation",),
    "mfm_hf.mfm.modeling_mfm": (
        "DaformerForDomainAdaptation",
        "DeepLabV2ForDomainAdaptation",
        "HrdaForDomainAdaptation",
        "SegformerForDomainAdaptation",
    ),
    "mfm_hf.mfm.configuration_rebuilder": ("RebuilderConfig",),
    "mfm_hf.mfm.rebuilder": ("Rebuilder",),
    "mfm_hf.models.configuration_daformer": ("DaformerConfig",),
    "mfm_hf.models.configuration_deeplabv2": ("DeepLabV2Config",),
    "mfm_hf.models.configuration_hrda": ("HrdaConfig",),
    "mfm_hf.models.modeling_daformer": ("DaformerForSemanticSegmentation",),
    "mfm_hf.models.modeling_deeplabv2": ("DeepLabV2ForSemanticSegmentation",),
    "mfm_hf.models.modeling_hrda": ("HrdaForSemanticSegmentation",),
    "mfm_hf.models.sliding_window": ("SlidingWindow",),
    "mfm_hf.uda.recipes": ("RECIPES", "Recipe"),
    "mfm_hf.uda.trainer": ("UdaTrainer",),
    "mfm_hf.uda.training_args": ("UdaTrainingArguments",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]

register()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
