import pytest
import torch
from torch.nn import functional as F

from mfm_hf.uda.augmentation import (
    AugmentationConfig,
    ColorJitter,
    StrongAugmentation,
    augment,
    blur_kernel_size,
    draw_strong_augmentations,
    gaussian_blur,
    hsv_to_rgb,
    rgb_to_hsv,
    saturate,
)
from tests.golden_files import golden

MANIFEST, RECORDED = golden("algo_strong_augment")

JITTERS = (
    ColorJitter(1.2, 0.8, 1.2, -0.2, order=(3, 2, 0, 1)),
    ColorJitter(0.8, 1.2, 0.8, 0.2, order=(0, 3, 1, 2)),
    ColorJitter(0.9, 1.1, 1.1, 0.1, order=(3, 2, 0, 1)),
)


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


@pytest.mark.parametrize("jitters", [JITTERS, (None, *JITTERS[1:]), (None,) * 3], ids=["all", "two", "none"])
@pytest.mark.parametrize("sigmas", [(0.15, 0.7, 1.15), (0.9, None, 0.3), (None,) * 3], ids=["all", "two", "none"])
def test_a_batch_is_augmented_as_its_images_are_one_by_one(jitters, sigmas):
    images = torch.randn(3, 3, 80, 64)
    augmentations = tuple(StrongAugmentation(*pair) for pair in zip(jitters, sigmas, strict=True))
    alone = [augment(images[index : index + 1], augmentations[index : index + 1]) for index in range(3)]
    torch.testing.assert_close(augment(images, augmentations), torch.cat(alone), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 1.2, 5.0])
def test_saturation_needs_no_hue(factor):
    extremes = torch.cartesian_prod(*[torch.tensor([0.0, 1e-7, 1e-3, 0.5, 1.0])] * 3).T.reshape(1, 3, 5, 25)
    images = torch.cat([extremes, torch.rand(1, 3, 5, 25)])
    hue, saturation, value = rgb_to_hsv(images)
    expected = hsv_to_rgb(hue, (saturation * factor).clamp(0, 1), value)
    result = saturate(images, torch.full((2, 1, 1, 1), factor))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.15, 0.5, 1.0, 1.15])
def test_no_weight_that_counts_is_left_out_of_the_blur(sigma):
    image = torch.randn(1, 2, 512, 12)  # which is too narrow to be blurred along its rows
    offsets = torch.arange(-25, 26, dtype=torch.float64)
    whole = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (whole / whole.sum()).view(1, 1, 51, 1).expand(2, -1, -1, -1)
    expected = F.conv2d(F.pad(image.double(), (0, 0, 25, 25), mode="reflect"), kernel, groups=2)
    torch.testing.assert_close(gaussian_blur(image, [sigma]).double(), expected, rtol=0, atol=1e-6)


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
