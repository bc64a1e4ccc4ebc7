import dataclasses

import torch

from mfm_hf.mfm.feature_mask import FeatureMask, stage_masks
from mfm_hf.mfm.rebuilder import Rebuilder
from tests.tiny_models import REBUILDER, tiny_model

ZEROS = dataclasses.replace(REBUILDER, fill="zeros")


def test_masking_alone_puts_zeros_where_the_mask_is_and_has_no_parameters():
    torch.manual_seed(0)
    model = tiny_model("segformer", ZEROS)
    assert type(model.rebuilder) is FeatureMask
    assert not list(model.rebuilder.parameters())
    features = model.encode(torch.randn(2, 3, 64, 96))
    mask = model.draw_mask(2, torch.Generator().manual_seed(0))
    for stage_mask, before, after in zip(
        stage_masks(mask, [feature.shape[-2:] for feature in features]),
        features,
        model.rebuild(features, mask),
        strict=True,
    ):
        assert torch.equal(after, before * ~stage_mask)
        assert (after == 0).any()


def test_masking_alone_draws_the_mask_that_the_rebuilder_draws():
    masks = [
        kind.draw_mask(3, torch.Generator().manual_seed(5))
        for kind in (FeatureMask(ZEROS, (4, 32)), Rebuilder(REBUILDER, (8, 32), (4, 32)))
    ]
    assert torch.equal(*masks)
