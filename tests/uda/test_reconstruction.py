"""The objectives that the paper compares with, each against its formula written out."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from mfm_hf.mfm.feature_mask import stage_masks
from mfm_hf.uda.mean_teacher import MeanTeacher
from mfm_hf.uda.reconstruction import FeatureReconstruction, PixelReconstruction
from mfm_hf.uda.teacher_features import TeacherFeatures
from mfm_hf.uda.views import View
from tests.tiny_models import MODELS, REBUILDER, tiny_model

HEIGHT, WIDTH = 64, 96
PIXELS = dataclasses.replace(REBUILDER, pixel_head=True)


def make_view(student) -> View:
    generator = torch.Generator().manual_seed(3)
    return View(
        torch.randn(2, 3, HEIGHT, WIDTH, generator=generator),
        labels=torch.zeros(2, HEIGHT, WIDTH, dtype=torch.long),
        detail=student.draw_detail(HEIGHT, WIDTH, generator),
        rebuilder_mask=student.draw_mask(2, generator),
    )


def encode(student, view: View):
    return student.encode_views([view.pixel_values], [view.detail])[0]


def masked(errors, mask) -> float:
    """The mean error of the masked positions, picked one by one; 0 where none is masked."""
    (stage_mask,) = stage_masks(mask, [errors.shape[-2:]])
    chosen = errors[stage_mask.squeeze(1)]
    return chosen.mean().item() if len(chosen) else 0.0


@pytest.mark.parametrize("name", MODELS)
def test_features_are_compared_where_they_were_masked(name):
    student = tiny_model(name).eval()
    view = make_view(student)
    features = encode(student, view)
    loss = FeatureReconstruction("target", of="student").loss(student, features, view)
    before = student.scales(view.pixel_values, features, view.rebuilder_mask)
    after = student.scales(view.pixel_values, student.rebuild(features, view.rebuilder_mask), view.rebuilder_mask)
    assert len(before) == (2 if name.startswith("hrda") else 1)
    wanted = [
        masked((a.features[-1] - b.features[-1]).pow(2).mean(1), b.mask) for a, b in zip(after, before, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)


def test_the_wanted_features_get_no_gradient():
    student = tiny_model().eval()
    view = make_view(student)
    features = [feature.detach().requires_grad_() for feature in encode(student, view)]
    mask = torch.ones_like(view.rebuilder_mask)  # nothing of the features is left in what is rebuilt
    student.rebuilder.embedding.weight.data.zero_()  # nor in the tokens
    view = dataclasses.replace(view, rebuilder_mask=mask)
    loss = FeatureReconstruction("target", of="student").loss(student, tuple(features), view)
    gradients = torch.autograd.grad(loss, features, allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", MODELS)
def test_the_teachers_features_are_its_own_and_move_with_it(name):
    student = tiny_model(name).eval()
    teacher = MeanTeacher(student.to_inference(), alpha=0.5)
    encoder = TeacherFeatures(teacher, student)
    view = make_view(student)
    view = dataclasses.replace(view, teacher_features=encoder(view.pixel_values, view.detail))
    features = encode(student, view)
    of_teacher, of_student = (
        FeatureReconstruction("target", of=whose).loss(student, features, view) for whose in ("teacher", "student")
    )
    assert of_teacher.item() == pytest.approx(of_student.item(), rel=1e-5)  # it is the student, so far

    with torch.no_grad():
        for parameter in student.encoder.parameters():
            parameter.add_(0.1)
    teacher.update(student, step=1)
    moved = encoder(view.pixel_values, view.detail)
    assert not torch.equal(student.deepest(moved), student.deepest(view.teacher_features))


@pytest.mark.parametrize("name", MODELS)
def test_pixels_are_compared_patch_by_patch_as_mae_does(name):
    student = tiny_model(name, PIXELS).eval()
    view = make_view(student)
    features = encode(student, view)
    loss = PixelReconstruction("target").loss(student, features, view)
    wanted = []
    rebuilt = student.rebuild(features, view.rebuilder_mask)
    for scale in student.scales(view.pixel_values, rebuilt, view.rebuilder_mask):
        deepest = scale.features[-1]
        size = student.feature_strides[-1]
        height, width = scale.pixel_values.shape[-2:]
        images = F.pad(scale.pixel_values, (0, -width % size, 0, -height % size))
        (stage_mask,) = stage_masks(scale.mask, [deepest.shape[-2:]])
        read = student.read_pixels(deepest)
        errors = []
        for image, row, column in stage_mask.squeeze(1).nonzero().tolist():
            rows, columns = (slice(at * size, (at + 1) * size) for at in (row, column))
            patch = images[image, :, rows, columns].flatten()
            patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            errors.append((read[image, :, row, column] - patch).pow(2).mean().item())
        wanted.append(sum(errors) / max(1, len(errors)))
    assert loss.item() == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)


def test_sizes_that_the_stride_does_not_divide_are_filled_up():
    student = tiny_model("segformer", PIXELS).eval()
    view = dataclasses.replace(make_view(student), pixel_values=torch.randn(2, 3, 70, 101))
    loss = PixelReconstruction("target").loss(student, encode(student, view), view)
    assert loss.isfinite()


@pytest.mark.parametrize("objective", [PixelReconstruction("target"), FeatureReconstruction("target", of="student")])
def test_nothing_masked_is_no_loss(objective):
    student = tiny_model("segformer", PIXELS).eval()
    view = make_view(student)
    view = dataclasses.replace(view, rebuilder_mask=torch.zeros_like(view.rebuilder_mask))
    assert objective.loss(student, encode(student, view), view).item() == 0


def test_a_network_without_a_pixel_head_says_so():
    student = tiny_model()
    with pytest.raises(ValueError, match="pixel_head=True"):
        student.read_pixels(torch.zeros(1, 32, 2, 2))
