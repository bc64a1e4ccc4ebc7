import numpy as np
import pytest
import torch
from transformers import SegformerImageProcessorPil

from mfm_hf.data.domain import BadExampleError, Example
from mfm_hf.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RequiredClass,
    TrainingTransform,
    denormalize,
    is_varied,
    normalize,
    random_box,
)
from tests.image_processors import needs_image_processor


def numbered_example(height=6, width=9):
    """Every pixel has its own number, in the label and in two channels of the image."""
    label = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    return Example("numbered", np.stack([label, 255 - label, np.zeros_like(label)], axis=-1), label)


def test_offsets_are_uniform_with_both_ends():
    rng = np.random.default_rng(0)
    boxes = [random_box((6, 9), (4, 6), rng) for _ in range(6000)]
    counts = np.zeros((3, 4))
    for rows, columns in boxes:
        assert (rows.stop - rows.start, columns.stop - columns.start) == (4, 6)
        counts[rows.start, columns.start] += 1
    assert counts.min() > 400  # 500 each are expected, with a standard deviation of 21
    assert counts.max() < 600


def test_image_and_label_stay_together():
    transform = TrainingTransform((4, 6), cat_max_ratio=1)
    seen = set()
    for seed in range(200):
        sample = transform(numbered_example(), np.random.default_rng(seed))
        pixels, labels = sample["pixel_values"], sample["labels"]
        assert (pixels.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert (tuple(pixels.shape), tuple(labels.shape)) == ((3, 4, 6), (4, 6))
        assert torch.equal(pixels[0].long(), labels)
        assert torch.equal(255 - pixels[1].long(), labels)
        flipped = bool(labels[0, 0] > labels[0, 1])
        corner = int(labels.min())
        expected = corner + 9 * torch.arange(4)[:, None] + torch.arange(6)
        assert torch.equal(labels, expected.flip(1) if flipped else expected)
        seen.add((corner, flipped))
    assert len(seen) == 3 * 4 * 2


@pytest.mark.parametrize(("probability", "first"), [(0.0, 0), (1.0, 8)])
def test_flip_probability(probability, first):
    transform = TrainingTransform((6, 9), cat_max_ratio=1, flip_probability=probability)
    for seed in range(20):
        assert transform(numbered_example(), np.random.default_rng(seed))["labels"][0, 0] == first


def test_a_sample_is_a_function_of_the_random_numbers():
    transform = TrainingTransform((4, 6))
    first, second = (transform(numbered_example(), np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first["pixel_values"], second["pixel_values"])


def test_an_example_without_a_label():
    example = numbered_example()
    sample = TrainingTransform((4, 6))(Example("bare", example.image, None), np.random.default_rng(0))
    assert set(sample) == {"pixel_values", "name"}
    assert sample["name"] == "bare"


@pytest.mark.parametrize("crop_size", [(7, 9), (6, 10)])
def test_an_image_smaller_than_the_crop_is_a_bad_example(crop_size):
    with pytest.raises(BadExampleError, match=f"numbered is 6x9, smaller than the crop {crop_size[0]}x{crop_size[1]}"):
        TrainingTransform(crop_size)(numbered_example(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("label", "varied"),
    [
        ([0, 0, 1, 1], True),
        ([0, 0, 0, 1], False),  # 75 % is not less than 75 %
        ([0, 0, 0, 0], False),
        ([0, 1, 255, 255], True),  # half of what is labelled
        ([0, 0, 255, 255], False),  # the ignore index is no second class
        ([255, 255, 255, 255], False),
    ],
)
def test_what_a_varied_crop_is(label, varied):
    assert is_varied(np.array([label], np.uint8), 0.75, 255) is varied


def dull_example():
    """One class, but for the last column of 40: a 4-column crop is varied only at the last of 37 offsets."""
    label = np.zeros((4, 40), np.uint8)
    label[:, -2:] = 1
    return Example("dull", np.repeat(label[..., None], 3, axis=-1), label)


def share_of_varied(transform, count=3000):
    samples = (transform(dull_example(), np.random.default_rng(seed)) for seed in range(count))
    return np.mean([is_varied(sample["labels"].numpy(), 0.75, 255) for sample in samples])


def test_a_dull_crop_is_drawn_again_ten_times():
    # 11 draws, and a chance of 1/37 in each: 1 - (36/37)^11 = 26.0 %; ten draws would be 24.0 %, twelve 28.0 %.
    assert share_of_varied(TrainingTransform((4, 4), cat_max_ratio=0.75)) == pytest.approx(0.260, abs=0.02)
    assert share_of_varied(TrainingTransform((4, 4), cat_max_ratio=1)) == pytest.approx(1 / 37, abs=0.01)


def share_of_full_crops(transform, required, count=3000):
    """How often the crop has the only offset at which it shows 8 pixels of class 1."""
    samples = (transform(dull_example(), np.random.default_rng(seed), required) for seed in range(count))
    return np.mean([(sample["labels"] == 1).sum() == 8 for sample in samples])


def test_crop_and_flip_are_drawn_again_ten_times_for_a_required_class():
    free = TrainingTransform((4, 4), cat_max_ratio=1)
    # More than 7 pixels: 11 draws, and a chance of 1/37 in each. More than 8 there never are.
    assert share_of_full_crops(free, RequiredClass(1, 7)) == pytest.approx(0.260, abs=0.02)
    assert share_of_full_crops(free, RequiredClass(1, 8)) == pytest.approx(1 / 37, abs=0.01)
    # Each of the 11 draws is the whole pipeline, of 11 draws of its own: 1 - (36/37)^121 = 96.4 %.
    nested = share_of_full_crops(TrainingTransform((4, 4)), RequiredClass(1, 7), count=500)
    assert nested == pytest.approx(0.964, abs=0.03)


def test_the_eleventh_crop_is_used_whatever_it_shows():
    sample = TrainingTransform((4, 6), cat_max_ratio=1)(
        numbered_example(), np.random.default_rng(3), RequiredClass(200, 0)
    )
    rng = np.random.default_rng(3)
    for _ in range(11):
        box, flip = random_box((6, 9), (4, 6), rng), rng.random() < 0.5
    expected = numbered_example().label[box]
    assert sample["labels"].tolist() == (expected[:, ::-1] if flip else expected).tolist()


def test_a_required_class_that_is_there_changes_nothing():
    transform = TrainingTransform((4, 6))
    for seed in range(20):
        usual = transform(numbered_example(), np.random.default_rng(seed))
        number = int(usual["labels"][1, 1])
        sample = transform(numbered_example(), np.random.default_rng(seed), RequiredClass(number, 0))
        assert torch.equal(sample["pixel_values"], usual["pixel_values"])


def test_margins_follow_crop_and_flip():
    transform = TrainingTransform((4, 6), cat_max_ratio=1, margins=(1, 2, 0, 4))
    seen = set()
    for seed in range(100):
        sample = transform(numbered_example(), np.random.default_rng(seed))
        rows, columns = sample["labels"] // 9, sample["labels"] % 9
        assert sample["valid"].dtype == torch.bool
        assert torch.equal(sample["valid"], (rows >= 1) & (rows < 4) & (columns < 5))
        seen.add(sample["valid"].numpy().tobytes())
    assert len(seen) > 10


@pytest.mark.parametrize("margins", [(4, 2, 0, 0), (0, 0, 5, 4)])
def test_margins_that_leave_nothing_make_a_bad_example(margins):
    with pytest.raises(BadExampleError, match=r"numbered is 6x9, of which the margins .* leave nothing"):
        TrainingTransform((4, 6), margins=margins)(numbered_example(), np.random.default_rng(0))


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match=r"margins are .*: give pixels at the top, bottom, left and right"):
        TrainingTransform((4, 6), margins=(0, -1, 0, 0))


@needs_image_processor
def test_normalize_is_what_the_image_processor_does():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    processor = SegformerImageProcessorPil(
        do_resize=False, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD), do_reduce_labels=False
    )
    expected = processor(image, return_tensors="pt")["pixel_values"]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    assert normalize(pixels).dtype == torch.float32
    torch.testing.assert_close(normalize(pixels), expected, rtol=0, atol=1e-6)


def test_denormalize_inverts_normalize_and_clips():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, -1, -1)
    assert torch.equal(denormalize(normalize(pixels)), pixels)
    assert torch.equal(denormalize(torch.full((3, 1, 1), 99.0)), torch.full((3, 1, 1), 255, dtype=torch.uint8))
