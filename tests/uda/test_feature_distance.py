import pytest
import torch

from mfm_hf.uda.feature_distance import PretrainedFeatures, feature_distance, majority_labels, thing_ids
from tests.golden_files import golden
from tests.tiny_models import tiny_model


def test_equals_the_reference():
    manifest, recorded = golden("algo_feature_distance")
    labels = majority_labels(recorded["gt"].squeeze(1).long(), (4, 5), 19, manifest["min_ratio"], ignore_index=255)
    assert torch.equal(labels, recorded["gt_rescaled"].squeeze(1))
    mask = torch.isin(labels, torch.tensor(manifest["classes"]))
    assert torch.equal(mask, recorded["mask"].squeeze(1).bool())
    features = recorded["feat"].requires_grad_()
    distance = feature_distance(features, recorded["feat_imagenet"], mask)
    assert distance.item() == pytest.approx(manifest["masked_mean_distance"], rel=1e-5)
    loss = manifest["lambda_"] * distance
    assert loss.item() == pytest.approx(manifest["loss"], rel=1e-5)
    loss.backward()
    torch.testing.assert_close(features.grad, recorded["grad_feat"], rtol=1e-5, atol=1e-8)


def test_without_things_it_is_zero():
    features = torch.randn(1, 4, 2, 2, requires_grad=True)
    distance = feature_distance(features, torch.randn(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool))
    distance.backward()
    assert distance.item() == 0
    assert features.grad.abs().sum() == 0


def test_at_no_distance_there_is_no_gradient():
    features = torch.randn(1, 4, 2, 2, requires_grad=True)
    distance = feature_distance(features, features.detach().clone(), torch.ones(1, 2, 2, dtype=torch.bool))
    distance.backward()
    assert distance.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_only_classes_that_exist_have_ids():
    assert thing_ids({"car": 3, "tree": 1}, ("car", "train")) == [3]


def test_the_pretrained_encoder_stays_as_it_was():
    student = tiny_model()
    images = torch.randn(1, 3, 64, 64)
    pretrained = PretrainedFeatures(student)
    before = pretrained(images)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert torch.equal(pretrained(images), before)
    assert student.rebuilder is not None
    assert pretrained.model.rebuilder is None
