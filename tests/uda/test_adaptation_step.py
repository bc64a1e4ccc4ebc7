import os

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mfm_hf.uda.mean_teacher import MeanTeacher
from tests.tiny_models import tiny_model
from tests.uda.test_accumulation import batches


def test_full_determinism_is_switched_on_before_the_first_step(make_trainer, monkeypatch):
    for name in ("CUBLAS_WORKSPACE_CONFIG", "CUDA_LAUNCH_BLOCKING"):
        monkeypatch.setenv(name, "")  # and put back afterwards
    for name in ("deterministic", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    try:
        trainer = make_trainer(mfm=True, full_determinism=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"].startswith(":")
        losses = trainer.training_step(*batches((32, 48), number=2))
        assert all(loss.isfinite() for loss in losses.values())
    finally:
        torch.use_deterministic_algorithms(False)


def test_it_is_off_otherwise(make_trainer):
    make_trainer()
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_the_device_cannot_do_is_refused_before_training(make_trainer):
    with pytest.raises(ValueError, match="--sync_batch_norm needs GPUs"):
        make_trainer(sync_batch_norm=True)


def test_a_synchronised_teacher_is_the_same_network():
    student = tiny_model("deeplabv2", rebuilder=None).to_inference()
    teacher = MeanTeacher(student, alpha=0.9, sync_batch_norm=True)
    norms = [layer for layer in teacher.model.modules() if isinstance(layer, _BatchNorm)]
    assert norms
    assert all(isinstance(layer, nn.SyncBatchNorm) and layer.training for layer in norms)
    assert teacher.model.state_dict().keys() == student.state_dict().keys()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    teacher.update(student, step=0)
    for name, value in teacher.model.named_parameters():
        assert torch.equal(value, student.get_parameter(name))
