"""The parts in one process; that several processes agree with one is in `test_processes.py`."""

import pytest
import torch

from mfm_hf.uda import global_statistics
from mfm_hf.uda.drawing import draw_choices
from mfm_hf.uda.global_statistics import count_true, gather_images, mean_over_processes, share_of_this_process
from mfm_hf.uda.resolution import resolve_recipe
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.tiny_models import tiny_model


def test_alone_a_process_is_all_processes():
    values = torch.tensor([1.0, 3.0])
    assert torch.equal(mean_over_processes(values), values)
    assert gather_images(["a", "b"]) == ["a", "b"]
    assert [0, 1, 2][share_of_this_process()] == [0, 1, 2]


def test_images_come_in_the_order_in_which_the_stream_deals_them_out(monkeypatch):
    monkeypatch.setattr(global_statistics, "gather_object", lambda values: [0, 3, 6, 1, 4, 7, 2, 5, 8])
    assert gather_images([0, 3, 6]) == list(range(9))


@pytest.mark.parametrize("statistics", ["process", "global"])
@pytest.mark.parametrize(("mask", "count"), [([True, False, True], 2), ([False, False, False], 1)])
def test_counts_are_never_0(mask, count, statistics):
    assert count_true(torch.tensor(mask), statistics) == count


@pytest.mark.parametrize("model", ["segformer", "hrda"])
def test_choices_of_parts_are_those_of_the_whole(model):
    recipe = resolve_recipe(UdaTrainingArguments(recipe="mic", mfm=True, mfm_augmented=True, crop_size=[64, 64]))
    labels = torch.randint(0, 19, (4, 64, 64), generator=torch.Generator().manual_seed(0))
    whole = draw_choices(recipe, tiny_model(model), labels, torch.Generator().manual_seed(0))
    first, second = whole.of_images(slice(0, None, 2)), whole.of_images(slice(1, None, 2))
    for name in ("pasted_classes", "mixed_augmentations", "masked_augmentations", "target_augmentations"):
        assert getattr(first, name) == getattr(whole, name)[::2]
        assert getattr(second, name) == getattr(whole, name)[1::2]
    assert torch.equal(
        torch.stack([first.visible_patches, second.visible_patches], 1).flatten(0, 1), whole.visible_patches
    )
    (mask,) = whole.rebuilder_masks.values()
    (part,) = second.rebuilder_masks.values()
    assert torch.equal(part, mask[:, 1::2] if model == "hrda" else mask[1::2])  # HRDA: of context and detail
    assert first.details == second.details == whole.details
