import torch

from mfm_hf.uda.class_mix import class_mask, class_mix, draw_classes
from tests.golden_files import golden


def test_equals_the_reference():
    manifest, recorded = golden("algo_classmix")
    labels = recorded["gt"].squeeze(1)
    chosen = [torch.tensor(classes) for classes in manifest["chosen_classes"]]
    mask = class_mask(labels, chosen)
    assert torch.equal(mask.long(), recorded["mask"].squeeze(1))
    assert torch.equal(class_mix(mask, recorded["img"], recorded["target_img"]), recorded["mixed_img"])
    mixed = class_mix(mask, labels, recorded["pseudo_label"])
    assert torch.equal(mixed, recorded["mixed_label"].squeeze(1))
    weights = recorded["pseudo_weight"].masked_fill(mask, 1.0)
    assert torch.equal(weights, recorded["mixed_weight"].squeeze(1))


def test_half_of_the_classes_of_the_batch_are_drawn_for_each_image():
    present = [torch.tensor([0, 1, 2, 255]), torch.tensor([0, 7])]
    first, second = draw_classes(present, torch.Generator().manual_seed(0))
    for chosen in (first, second):
        assert len(chosen) == 3  # of 0, 1, 2, 7, 255
        assert len(set(chosen.tolist())) == 3
        assert set(chosen.tolist()) <= {0, 1, 2, 7, 255}
    drawn = [tuple(draw_classes(present, torch.Generator().manual_seed(seed))[0].tolist()) for seed in range(40)]
    assert {value for classes in drawn for value in classes} == {0, 1, 2, 7, 255}
