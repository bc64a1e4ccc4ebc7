from __future__ import annotations

import warnings

from torch import nn
from transformers import SegformerForSemanticSegmentation

from mfm_hf.models.compat import enable_activation_checkpointing
from tests.models.segmenter_tester import segformer_config


def recomputes(layer: nn.Module) -> bool:
    return getattr(layer, "gradient_checkpointing", False)


def test_checkpointing_is_on_and_no_warning_is_given() -> None:
    model = SegformerForSemanticSegmentation(segformer_config())
    assert not any(recomputes(layer) for layer in model.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enable_activation_checkpointing(model)
    assert any(recomputes(layer) for layer in model.modules())
