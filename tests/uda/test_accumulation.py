"""Micro-batches: their gradients are those of one batch, and what comes once a step comes once."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState

from mfm_hf.uda.objectives import Objective
from tests.tiny_models import MODELS


def batches(size, number=4):
    generator = torch.Generator().manual_seed(9)
    images = torch.randint(0, 256, (2, number, 3, *size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 19, (number, *size), generator=generator)
    return {"pixel_values": images[0], "labels": labels}, {"pixel_values": images[1]}


def fix_dropout(trainer):
    """Take away what PyTorch draws."""
    for module in trainer.student.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
        elif "DropPath" in type(module).__name__:
            module.drop_prob = 0.0
    return trainer


def fix_network(trainer):
    """Leave only what treats each image on its own: dropout off, BatchNorm on running statistics."""
    module = fix_dropout(trainer).adaptation.module

    def on_running_statistics(term: Objective) -> Objective:
        return replace(term, batch_norm="running")

    module.objectives = tuple(map(on_running_statistics, module.objectives))
    return trainer


def gradients(trainer):
    return {name: parameter.grad for name, parameter in trainer.student.named_parameters()}


OPTIONS = {"mfm": True, "crop_size": [64, 64], "teacher_batch_norm": "running", "pseudo_label_threshold": 0.0}


@pytest.mark.parametrize("encode", ["views_together", "one_by_one"])
@pytest.mark.parametrize(("recipe", "model"), [("dacs", "segformer"), ("mic", "hrda")])
def test_micro_batches_give_the_gradients_of_one_batch(recipe, model, encode, make_trainer):
    outcomes = []
    for number in (1, 2):
        options = {**OPTIONS, "recipe": recipe, "encode": encode, "feature_distance_weight": 0.0}
        trainer = fix_network(make_trainer(model, gradient_accumulation_steps=number, **options))
        losses = trainer.training_step(*batches((64, 64)))
        outcomes.append((losses, gradients(trainer)))
    (losses, whole), (sum_of_losses, summed) = outcomes
    assert {"source", "mixed", "mfm"} <= losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(sum_of_losses[name], loss, rtol=1e-5, atol=1e-6)
    for name, gradient in whole.items():
        torch.testing.assert_close(summed[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def counted(function, calls):
    def call(*args, **kwargs):
        calls[function.__name__] += 1
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize(("encode", "number_of_passes"), [("views_together", 2), ("one_by_one", 6)])
def test_what_comes_once_a_step(encode, number_of_passes, make_trainer, monkeypatch):
    trainer = make_trainer(gradient_accumulation_steps=2, encode=encode, **OPTIONS)
    adaptation, calls = trainer.adaptation, Counter()
    for owner, name in (
        (adaptation.teacher, "update"),
        (adaptation.optimizer, "step"),
        (trainer.accelerator, "backward"),
        (trainer.accelerator, "no_sync"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name), calls))
    trainer.training_step(*batches((64, 64)))
    assert calls == {"update": 1, "step": 1, "backward": number_of_passes, "no_sync": number_of_passes - 1}
    assert trainer.step == 1


def test_a_run_takes_all_micro_batches_from_the_stream(make_trainer):
    trainer = make_trainer(mfm=True, gradient_accumulation_steps=3, per_device_train_batch_size=1, max_steps=2)
    sizes = []
    plain = trainer.adaptation.make_views

    def make_views(source, target, choices):
        sizes.append((len(source["names"]), len(target["names"]), len(choices.pasted_classes)))
        return plain(source, target, choices)

    trainer.adaptation.make_views = make_views
    trainer.train()
    assert sizes == [(1, 1, 1)] * 6


def test_a_batch_that_cannot_be_divided_is_refused(make_trainer):
    trainer = make_trainer(gradient_accumulation_steps=3)
    with pytest.raises(ValueError, match="multiple of"):
        trainer.training_step(*batches((32, 48)))


@pytest.mark.parametrize("mode", ["update", "batch_no_update", "running"])
@pytest.mark.parametrize("model", MODELS)
def test_checkpointing_changes_no_gradient_and_no_statistic(model, mode, make_trainer):
    outcomes = []
    for checkpointing in (False, True):
        options = {**OPTIONS, "mfm_view": "target", "mfm_batch_norm": mode, "log_gradient_norms": True}
        trainer = fix_dropout(make_trainer(model, gradient_checkpointing=checkpointing, **options))
        trainer.adaptation(*batches((64, 64), number=2), measure=True)
        outcomes.append((gradients(trainer), dict(trainer.student.named_buffers())))
    for plain, recomputed in zip(*outcomes, strict=True):
        for name, value in plain.items():
            assert value is not None
            torch.testing.assert_close(recomputed[name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_bf16_trains_near_float32(make_trainer):
    losses = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state()  # which holds the precision of the first accelerator
        trainer = fix_network(make_trainer(mixed_precision=precision, **OPTIONS))
        with torch.no_grad():  # an untrained classifier says nearly nothing
            trainer.student.decode_head.classifier.weight.mul_(100)
        losses.append(trainer.training_step(*batches((64, 64), number=2)))
        assert all(parameter.dtype == torch.float32 for parameter in trainer.student.parameters())
    AcceleratorState._reset_state()
    for name, loss in losses[0].items():
        assert loss != losses[1][name]
        torch.testing.assert_close(losses[1][name], loss, rtol=2e-2, atol=0)
