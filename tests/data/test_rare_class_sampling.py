import numpy as np
import pytest

from mfm_hf.data.class_statistics import ClassStatistics
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling, class_probabilities
from tests.golden_files import golden

NAMES = ("road", "pole", "train", "bus")
# Pixels of four classes in five examples. No example shows a bus; only the fourth shows more than 30 pixels of a train.
COUNTS = np.array([[900, 40, 0, 0], [800, 50, 30, 0], [700, 0, 0, 0], [600, 31, 60, 0], [500, 30, 20, 0]])


def sampler(**config):
    return RareClassSampler(ClassStatistics(COUNTS, NAMES), RareClassSampling(**{"min_pixels": 30, **config}))


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5, 1.0])
def test_the_probabilities_are_those_of_the_reference(temperature):
    manifest, tensors = golden("algo_rcs")
    pixels = np.zeros(19, np.int64)
    for example in manifest["sample_class_stats"]:
        for class_id in example.keys() - {"file"}:
            pixels[int(class_id)] += example[class_id]
    classes = manifest[f"T{temperature}"]["classes"]
    probabilities = class_probabilities(pixels, temperature)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities[classes], tensors[f"probs_T{temperature}"], rtol=1e-5)
    assert set(np.flatnonzero(probabilities)) == set(classes)  # 16, which does not occur, is not among them


def test_draws_follow_the_formula():
    drawn = sampler(temperature=0.5)
    rng = np.random.default_rng(0)
    count = 20_000
    draws = np.array([drawn.draw(rng) for _ in range(count)])

    frequencies = COUNTS.sum(axis=0)[:3] / COUNTS.sum()
    expected = np.exp((1 - frequencies) / 0.5) / np.exp((1 - frequencies) / 0.5).sum()
    np.testing.assert_allclose(drawn.probabilities[:3], expected, rtol=1e-6)
    # A share of p has a standard deviation of at most 0.5 / sqrt(20,000) = 0.0035.
    np.testing.assert_allclose(np.bincount(draws[:, 0], minlength=4) / count, [*expected, 0], atol=0.016)

    showing = {0: [0, 1, 2, 3, 4], 1: [0, 1, 3], 2: [3]}  # strictly more than 30 pixels
    for class_id, examples in showing.items():
        indices = draws[draws[:, 0] == class_id, 1]
        shares = np.bincount(indices, minlength=5) / len(indices)
        np.testing.assert_allclose(shares[examples], 1 / len(examples), atol=0.03)
        assert set(indices) == set(examples)


def test_what_can_be_drawn():
    drawn = sampler(min_pixels=30, min_crop_ratio=0.5)
    assert (drawn.min_crop_pixels, drawn.num_examples, drawn.num_drawable) == (15, 5, 5)
    assert sampler(min_pixels=650, leave_out_scarce=True).num_drawable == 3


def test_a_class_that_occurs_too_little_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"more than 55 pixels of pole \(at most 50\): lower --rare_class_min_pixels"):
        sampler(min_pixels=55)


def test_such_a_class_can_be_left_out():
    drawn = sampler(min_pixels=55, leave_out_scarce=True, temperature=0.5)
    frequencies = COUNTS.sum(axis=0) / COUNTS.sum()  # of all pixels, the poles' too
    odds = np.exp((frequencies[0] - frequencies[2]) / 0.5)
    np.testing.assert_allclose(drawn.probabilities, [1 / (1 + odds), 0, odds / (1 + odds), 0], rtol=1e-6)


@pytest.mark.parametrize("leave_out_scarce", [False, True])
def test_nothing_to_draw_is_an_error(leave_out_scarce):
    with pytest.raises(ValueError, match=r"road \(at most 900\), pole .*: lower --rare_class_min_pixels"):
        sampler(min_pixels=900, leave_out_scarce=leave_out_scarce)
    nothing = ClassStatistics(np.zeros((3, 4), np.int64), NAMES)
    with pytest.raises(ValueError, match="no example shows a pixel of any class"):
        RareClassSampler(nothing, RareClassSampling(leave_out_scarce=leave_out_scarce))


@pytest.mark.parametrize(
    ("crop_size", "min_pixels", "min_crop_ratio"),
    [
        ((512, 512), 3000, 0.5),  # DAFormer
        ((1024, 1024), 3000, 2.0),  # HRDA, MIC
        ((64, 128), 94, 0.5),
        ((512, 1024), 3000, 1.0),
    ],
)
def test_the_papers_crops_keep_the_papers_numbers(crop_size, min_pixels, min_crop_ratio):
    config = RareClassSampling.for_crop(crop_size)
    assert (config.temperature, config.min_pixels, config.min_crop_ratio) == (0.01, min_pixels, min_crop_ratio)
    share = config.min_pixels * config.min_crop_ratio / (crop_size[0] * crop_size[1])
    assert share == pytest.approx(1500 / 512**2, rel=0.01)


@pytest.mark.parametrize("config", [{"temperature": 0}, {"min_pixels": -1}, {"min_crop_ratio": -0.5}])
def test_numbers_out_of_range_are_refused(config):
    with pytest.raises(ValueError, match=f"--rare_class_{next(iter(config))} "):
        RareClassSampling(**config)
