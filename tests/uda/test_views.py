import pytest
import torch

from mfm_hf.uda.augmentation import ColorJitter, StrongAugmentation, augment
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.views import VIEWS, View, make_views

HEIGHT, WIDTH = 8, 12
JITTER = ColorJitter(brightness=1.1, contrast=0.9, saturation=1.2, hue=0.1, order=(2, 0, 3, 1))


@pytest.fixture
def source() -> View:
    return View(torch.randn(2, 3, HEIGHT, WIDTH), torch.randint(0, 4, (2, HEIGHT, WIDTH)))


@pytest.fixture
def target() -> View:
    labels = torch.randint(0, 4, (2, HEIGHT, WIDTH))
    return View(torch.randn(2, 3, HEIGHT, WIDTH), labels, torch.rand(2, HEIGHT, WIDTH))


def test_source_and_target_are_left_as_they_are(source, target):
    views = make_views(("target", "source"), source, target, StepChoices())
    assert list(views) == ["target", "source"]
    for view, given in ((views["source"], source), (views["target"], target)):
        assert view.pixel_values is given.pixel_values
        assert view.labels is given.labels
        assert view.weights is given.weights


def test_the_source_needs_no_target(source):
    assert list(make_views(("source",), source, None, StepChoices())) == ["source"]


def test_the_mixed_view_takes_pixels_labels_and_weights_from_one_place(source, target):
    pasted = (torch.tensor([0, 3]), torch.tensor([1]))
    choices = StepChoices(pasted_classes=pasted, mixed_augmentations=(StrongAugmentation(),) * 2)
    view = make_views(("mixed",), source, target, choices)["mixed"]
    from_source = 0
    for image in range(2):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                is_pasted = source.labels[image, y, x].item() in pasted[image].tolist()
                origin = source if is_pasted else target
                assert torch.equal(view.pixel_values[image, :, y, x], origin.pixel_values[image, :, y, x])
                assert view.labels[image, y, x] == origin.labels[image, y, x]
                assert view.weights[image, y, x] == (1 if is_pasted else target.weights[image, y, x])
                from_source += is_pasted
    assert 0 < from_source < view.labels.numel()


def test_the_mixed_view_is_augmented_after_mixing(source, target):
    nothing = (torch.tensor([], dtype=torch.int64),) * 2
    augmentations = (StrongAugmentation(JITTER), StrongAugmentation(None, blur_sigma=0.8))
    choices = StepChoices(pasted_classes=nothing, mixed_augmentations=augmentations)
    view = make_views(("mixed",), source, target, choices)["mixed"]
    assert torch.equal(view.pixel_values, augment(target.pixel_values, augmentations))
    assert torch.equal(view.labels, target.labels)
    assert torch.equal(view.weights, target.weights)


def test_the_masked_view_lacks_the_hidden_patches(source, target):
    visible = torch.tensor([[[True, False, True], [False, True, True]], [[True, True, True], [False, False, False]]])
    choices = StepChoices(masked_augmentations=(StrongAugmentation(),) * 2, visible_patches=visible)
    view = make_views(("masked",), source, target, choices)["masked"]
    for image in range(2):
        for row in range(2):
            for column in range(3):
                place = (image, slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
                expected = target.pixel_values[place] * visible[image, row, column]
                assert torch.equal(view.pixel_values[place], expected)
    assert view.labels is target.labels
    assert view.weights is target.weights


def test_the_masked_pair_is_one_image_of_each(source, target):
    view = make_views(("masked_pair",), source, target, StepChoices())["masked_pair"]
    assert torch.equal(view.pixel_values, torch.stack([source.pixel_values[0], target.pixel_values[0]]))
    assert torch.equal(view.labels, torch.stack([source.labels[0], target.labels[0]]))
    assert torch.equal(view.weights, torch.stack([torch.ones(HEIGHT, WIDTH), target.weights[0]]))


def test_choices_reach_the_view_that_they_are_for(source, target):
    mask = torch.rand(2, 4, 6) < 0.4
    views = make_views(tuple(VIEWS), source, target, every_choice(rebuilder_masks={"target": mask}))
    assert list(views) == list(VIEWS)
    assert torch.equal(views.pop("target").rebuilder_mask, mask)
    assert all(view.rebuilder_mask is None for view in views.values())


def every_choice(**choices) -> StepChoices:
    none = (StrongAugmentation(),) * 2
    return StepChoices(
        pasted_classes=(torch.tensor([1]),) * 2,
        mixed_augmentations=none,
        masked_augmentations=none,
        target_augmentations=none,
        **choices,
    )
