import pytest
import torch

from mfm_hf.uda.augmentation import (
    AugmentationConfig,
    ColorJitter,
    StrongAugmentation,
    augment,
    blur_kernel_size,
    draw_strong_augmentations,
    hsv_to_rgb,
    rgb_to_hsv,
)
from tests.golden_files import golden

MANIFEST, RECORDED = golden("algo_strong_augment")


@pytest.mark.parametrize("case", MANIFEST["jitter_cases"], ids=lambda case: str(case["order"]))
def test_color_jitter_equals_the_reference(case):
    factors = zip(case["brightness"], case["contrast"], case["saturation"], case["hue"], strict=True)
    augmentations = tuple(StrongAugmentation(ColorJitter(*values, order=tuple(case["order"]))) for values in factors)
    result = augment(RECORDED["img_normalised"], augmentations)
    torch.testing.assert_close(result, RECORDED[f"jitter.{case['index']}.out"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", MANIFEST["blur_cases"], ids=lambda case: str(case["sigma"]))
def test_blur_equals_the_reference(case):
    result = augment(RECORDED["img_normalised"], (StrongAugmentation(blur_sigma=case["sigma"]),) * 2)
    torch.testing.assert_close(result, RECORDED[f"blur.{case['index']}.out"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("side", "size"), MANIFEST["blur_kernel_size_by_side"].items())
def test_kernel_sizes(side, size):
    assert blur_kernel_size(int(side)) == size


def test_hsv_there_and_back():
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(hsv_to_rgb(*rgb_to_hsv(image)), image, rtol=0, atol=1e-5)


def test_nothing_drawn_nothing_changed():
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(augment(image, (StrongAugmentation(),) * 2), image)


def test_gates_are_drawn_for_the_batch_and_factors_for_the_image():
    jittered, blurred = 0, 0
    for seed in range(400):
        first, second = draw_strong_augmentations(2, AugmentationConfig(), torch.Generator().manual_seed(seed))
        assert (first.color_jitter is None) == (second.color_jitter is None)
        assert (first.blur_sigma is None) == (second.blur_sigma is None)
        jittered += first.color_jitter is not None
        blurred += first.blur_sigma is not None
        if first.color_jitter is not None:
            assert first.color_jitter != second.color_jitter
            for jitter in (first.color_jitter, second.color_jitter):
                assert sorted(jitter.order) == [0, 1, 2, 3]
                assert -0.2 <= jitter.hue <= 0.2
                assert min(jitter.brightness, jitter.contrast, jitter.saturation) >= 0.8
                assert max(jitter.brightness, jitter.contrast, jitter.saturation) <= 1.2
        if first.blur_sigma is not None:
            assert 0.15 <= min(first.blur_sigma, second.blur_sigma) <= max(first.blur_sigma, second.blur_sigma) <= 1.15
    assert jittered / 400 == pytest.approx(0.8, abs=0.08)
    assert blurred / 400 == pytest.approx(0.5, abs=0.1)


def test_mic_shares_the_order_and_the_blur():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        first, second = draw_strong_augmentations(2, AugmentationConfig(), generator, shared=True)
        assert first.blur_sigma == second.blur_sigma
        if first.color_jitter is not None:
            assert first.color_jitter.order == second.color_jitter.order
            assert first.color_jitter.hue != second.color_jitter.hue
