import pytest
import torch
from torch import nn

from mfm_hf.uda.mean_teacher import MeanTeacher
from tests.golden_files import golden
from tests.tiny_models import MODELS, tiny_model

MANIFEST, RECORDED = golden("algo_ema")


class OneParameter(nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(value.clone())
        self.register_buffer("statistic", torch.zeros(1))


@pytest.mark.parametrize("alpha", [0.999, 0.99])
def test_equals_the_reference(alpha):
    students = RECORDED["params"]
    teacher = MeanTeacher(OneParameter(torch.zeros_like(students[0])), alpha)
    for step, student, expected in zip(
        MANIFEST[f"iters_alpha{alpha}"], students, RECORDED[f"ema_alpha{alpha}"], strict=True
    ):
        teacher.update(OneParameter(student), step)
        torch.testing.assert_close(teacher.model.weight.data, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.999, 0.99])
def test_alpha_rises_to_its_limit(alpha):
    teacher = MeanTeacher(OneParameter(torch.zeros(1)), alpha)
    recorded = zip(MANIFEST[f"iters_alpha{alpha}"], MANIFEST[f"alpha_teacher_alpha{alpha}"], strict=True)
    for step, expected in recorded:
        assert teacher.alpha_at(step) == pytest.approx(expected or 0.0)  # the first step copies


def test_buffers_are_not_averaged():
    teacher, student = MeanTeacher(OneParameter(torch.zeros(1)), 0.9), OneParameter(torch.ones(1))
    student.statistic += 5
    teacher.update(student, step=0)
    assert teacher.model.statistic.item() == 0


@pytest.mark.parametrize("name", MODELS)
def test_batch_statistics_without_dropout(name):
    student = tiny_model(name)
    teacher = MeanTeacher(student.to_inference(), 0.99)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(teacher(images), teacher(images))  # nothing random is left
    batch_norms = [module for module in teacher.model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert batch_norms
    assert all(module.training and module.running_mean.abs().sum() > 0 for module in batch_norms)
    # Its statistics are those of the batch at hand: an image alone is seen otherwise than with another.
    assert not torch.allclose(teacher(images)[:1], teacher(images[:1]), atol=1e-4)


def test_the_student_is_not_touched():
    student = tiny_model()
    teacher = MeanTeacher(student.to_inference(), 0.99)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    teacher(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
