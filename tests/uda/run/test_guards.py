"""Steps that are not finite: skipped without a trace in the networks, written down, and not for ever."""

import json
import math

import pytest
import torch
from accelerate import Accelerator

from mfm_hf.uda.objectives import Segmentation
from mfm_hf.uda.run.guards import TooManySkippedStepsError
from mfm_hf.uda.trainer import UdaTrainer
from tests.uda.test_accumulation import batches

SIZE = (32, 48)
NAMES = {"source": ["a", "b"], "target": ["c", "d"]}


def step(trainer: UdaTrainer) -> dict[str, torch.Tensor]:
    source, target = batches(SIZE, number=2)
    return trainer.training_step({**source, "names": NAMES["source"]}, {**target, "names": NAMES["target"]})


def state(trainer: UdaTrainer) -> dict[str, torch.Tensor]:
    return {
        f"{file}/{name}": tensor.clone()
        for file, tensors in trainer.adaptation.tensors().items()
        for name, tensor in tensors.items()
    }


def assert_same(one, other, leave_out="-"):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert name.startswith(leave_out) or torch.equal(value, other[name]), name


@pytest.fixture(params=["loss", "gradient"])
def spoil(request, monkeypatch):
    """A function that spoils the loss, or the gradient alone, of a trainer's steps from one number up to another."""

    def spoil(trainer: UdaTrainer, start: int, stop: float) -> None:
        def is_bad() -> bool:
            return start <= trainer.step < stop

        if request.param == "loss":
            plain = Segmentation.loss
            monkeypatch.setattr(Segmentation, "loss", lambda *args: plain(*args) * (math.nan if is_bad() else 1.0))
        else:
            next(trainer.student.parameters()).register_hook(lambda grad: grad * math.inf if is_bad() else grad)

    return spoil


def test_a_skipped_step_changes_nothing(make_trainer, spoil, tmp_path):
    trainer = make_trainer(mfm=True)
    spoil(trainer, 1, 2)
    step(trainer)
    before = state(trainer)
    losses = step(trainer)
    # The teacher moves at the start of a step, before anything is known of it.
    assert_same(state(trainer), before, leave_out="teacher/")
    teacher = state(trainer)
    step(trainer)
    for name, value in trainer.adaptation.teacher.model.named_parameters():  # and then stays where it is
        assert torch.equal(value, teacher[f"teacher/{name}"])
    assert trainer.step == 3
    assert trainer.adaptation.state_of_training()["skipped_steps"] == 1
    (line,) = (tmp_path / "run/skipped_steps.jsonl").read_text().splitlines()
    bad = sorted(name for name, loss in losses.items() if not loss.isfinite())
    assert json.loads(line) == {"step": 2, "losses_not_finite": bad, "samples": NAMES}


def test_training_goes_on_as_if_the_step_had_not_been(make_trainer, spoil, tmp_path):
    trainer, other = (make_trainer(mfm=True, teacher_alpha=0.5, output_dir=str(tmp_path / name)) for name in "ab")
    step(other)
    other.adaptation.number += 1
    step(other)
    spoil(trainer, 1, 2)
    for _ in range(3):
        step(trainer)
    assert_same(state(trainer), state(other))


def test_too_many_in_a_row_end_the_run_with_the_last_checkpoint(make_trainer, spoil, tmp_path):
    trainer = make_trainer(save_steps=2, max_steps=9, max_skipped_steps=3)
    spoil(trainer, 3, math.inf)
    with pytest.raises(TooManySkippedStepsError, match=r"^3 steps in a row .* checkpoint is \S*checkpoint-4:"):
        trainer.train()
    assert len((tmp_path / "run/skipped_steps.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "run/model.safetensors").exists()


def test_a_good_step_in_between_lets_the_run_go_on(make_trainer, spoil, tmp_path):
    trainer = make_trainer(max_steps=5, max_skipped_steps=2, logging_steps=1)
    spoil(trainer, 1, 2)
    spoil(trainer, 3, 4)
    results = trainer.train()
    assert (results["steps"], results["skipped_steps"]) == (5, 2)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["skipped_steps"] for line in lines if "loss/source" in line] == [0, 1, 2]
    assert all(math.isfinite(value) for line in lines for value in line.values())


def test_resumed_after_a_skipped_step_equals_uninterrupted(make_trainer, spoil, tmp_path):
    straight = make_trainer(mfm=True, save_steps=2)
    spoil(straight, 1, 2)
    straight.train()
    resumed = make_trainer(
        mfm=True, output_dir=str(tmp_path / "b"), resume_from_checkpoint=str(tmp_path / "run/checkpoint-2")
    )
    resumed.train()
    assert_same(state(resumed), state(straight))
    assert resumed.adaptation.guard.num_skipped == 1


@pytest.mark.parametrize("counts", [{}, {"num_skipped": 1}, {"num_skipped": 1, "in_a_row": -1}])
def test_a_state_without_counts_is_refused(counts, make_trainer):
    with pytest.raises(ValueError, match="use another checkpoint"):
        make_trainer().adaptation.guard.load_state_dict(counts)


def gradient_norm(trainer: UdaTrainer) -> float:
    gradients = [parameter.grad for parameter in trainer.student.parameters() if parameter.grad is not None]
    return torch.stack([gradient.norm() for gradient in gradients]).norm().item()


def test_gradients_are_cut_down_to_the_norm(make_trainer):
    free, cut = make_trainer(), make_trainer(max_grad_norm=0.01)
    step(free)
    step(cut)
    assert gradient_norm(free) > 0.1
    assert gradient_norm(cut) == pytest.approx(0.01, rel=1e-3)


@pytest.fixture
def make_scaled(make_trainer):
    """A function that makes a trainer whose gradients are scaled, as under fp16 on a GPU."""

    def make(**overrides) -> UdaTrainer:
        accelerator = Accelerator(cpu=True)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        trainer = make_trainer(**overrides)
        return UdaTrainer(
            trainer.student,
            trainer.args,
            trainer.source,
            trainer.target,
            recipe=trainer.recipe,
            accelerator=accelerator,
        )

    return make


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_the_scale_changes_nothing_but_rounding(make_trainer, make_scaled, max_grad_norm):
    trainers = make_trainer(max_grad_norm=max_grad_norm), make_scaled(max_grad_norm=max_grad_norm)
    for _ in range(2):
        for trainer in trainers:
            step(trainer)
    for ours, theirs in zip(*(trainer.student.parameters() for trainer in trainers), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_scale_falls_when_a_step_is_skipped_under_fp16(make_scaled, spoil):
    scaled = make_scaled()
    spoil(scaled, 1, 2)
    step(scaled)
    before = state(scaled)
    assert scaled.adaptation.guard.num_skipped == 0
    step(scaled)
    assert_same(state(scaled), before, leave_out="teacher/")
    assert scaled.adaptation.guard.num_skipped == 1
    assert scaled.accelerator.scaler.get_scale() == 512.0
    step(scaled)
    assert scaled.adaptation.guard.in_a_row == 0
