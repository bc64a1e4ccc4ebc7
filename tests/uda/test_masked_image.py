import pytest
import torch

from mfm_hf.uda.masked_image import draw_patch_mask, hide_patches
from tests.golden_files import golden

MANIFEST, RECORDED = golden("algo_mic_mask")


@pytest.mark.parametrize("case", MANIFEST["cases"], ids=lambda case: str(case["block"]))
def test_equals_the_reference(case):
    index = case["index"]
    images = RECORDED[f"{index}.img"]
    drawn = draw_patch_mask(len(images), images.shape[-2:], case["block"], case["ratio"], torch.Generator())
    assert [len(drawn), 1, *drawn.shape[1:]] == case["grid"]
    visible = RECORDED[f"{index}.rand"].squeeze(1) > case["ratio"]
    assert torch.equal(hide_patches(images, visible), RECORDED[f"{index}.masked_img"])


def test_share_of_visible_patches():
    mask = draw_patch_mask(64, (512, 512), 32, 0.7, torch.Generator().manual_seed(0))
    assert mask.shape == (64, 16, 16)
    assert mask.float().mean().item() == pytest.approx(0.3, abs=0.02)
