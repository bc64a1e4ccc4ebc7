import torch

from mfm_hf.uda.pseudo_label import ignore_borders, pseudo_label
from tests.golden_files import golden


def test_equals_the_reference():
    manifest, recorded = golden("algo_pseudo_label")
    logits = recorded["logits"]
    labels, weights = pseudo_label(logits, logits.shape[-2:], manifest["threshold"])
    assert torch.equal(labels, recorded["pseudo_label"])
    torch.testing.assert_close(weights, recorded["weight_plain"], rtol=0, atol=1e-7)


def test_labels_have_the_size_of_the_images():
    labels, weights = pseudo_label(torch.randn(2, 5, 4, 6), (16, 24), 0.5)
    assert labels.shape == weights.shape == (2, 16, 24)


def test_borders_have_no_weight():
    manifest, recorded = golden("algo_pseudo_label")
    logits = recorded["logits"]
    pseudo = pseudo_label(logits, logits.shape[-2:], manifest["threshold"])
    rows = ignore_borders(pseudo, rows=(3, 7))
    torch.testing.assert_close(rows.weights, recorded["weight_top3_bottom7"], rtol=0, atol=1e-7)
    margins = ignore_borders(pseudo, valid=recorded["valid_pseudo_mask"].squeeze(1).bool())
    torch.testing.assert_close(margins.weights, recorded["weight_valid_mask"], rtol=0, atol=1e-7)
    assert torch.equal(rows.labels, pseudo.labels)
