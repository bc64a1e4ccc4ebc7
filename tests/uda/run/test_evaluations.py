import json
import shutil
from dataclasses import replace
from itertools import islice

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForSemanticSegmentation

from mfm_hf.data.domains import load_domain
from mfm_hf.hub.model_card import render_model_card
from mfm_hf.uda.run import best_network
from mfm_hf.uda.run.evaluations import Evaluations
from mfm_hf.uda.trainer import UdaTrainer

LABEL_FREE = {"prediction_entropy", "prediction_stability", "teacher_agreement"}


@pytest.fixture
def make_selecting(make_trainer):
    """A function that makes a trainer which also measures on the source, and perhaps not on the target's labels."""

    def make(target_labels: bool = True, **overrides) -> UdaTrainer:
        trainer = make_trainer(**{"eval_steps": 1, **overrides})
        source_eval = load_domain(trainer.args.source, "eval")
        eval_domain = trainer.eval_domain if target_labels else None
        return UdaTrainer(
            trainer.student, trainer.args, trainer.source, trainer.target, eval_domain, source_eval_domain=source_eval
        )

    return make


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_every_evaluation_has_every_score(make_selecting, tmp_path):
    results = make_selecting(max_steps=3).train()
    history = results["evaluations"]
    assert [entry["step"] for entry in history] == [1, 2, 3]
    assert history[0].keys() == {"step", "mean_iou", "source_mean_iou", "overall_accuracy"} | LABEL_FREE - {
        "prediction_stability"
    }
    assert history[1].keys() == history[0].keys() | {"prediction_stability"}
    assert all(0 <= score <= 1 for entry in history for name, score in entry.items() if name != "step")
    assert {name: results[name] for name in LABEL_FREE} == {name: history[-1][name] for name in LABEL_FREE}
    logged = [line for line in log_of(tmp_path / "run") if "eval/mean_iou" in line]
    assert [{name.removeprefix("eval/"): value for name, value in line.items()} for line in logged] == history


def test_the_mean_is_taken_over_the_classes_that_are_asked_for(make_trainer):
    trainer = make_trainer(eval_classes="synthia16")
    scores = trainer.evaluate()
    averaged = [iou for name, iou in scores["per_class_iou"].items() if name not in ("terrain", "truck", "train")]
    assert scores["mean_iou"] == pytest.approx(sum(averaged) / 16)
    assert len(scores["eval_classes"]) == 16
    with pytest.raises(ValueError, match="--eval_classes synthia: there is no class 'synthia' here"):
        make_trainer(eval_classes="synthia")


def test_to_measure_changes_nothing(make_selecting):
    """Not the teacher's BatchNorm, nor any stream of random numbers."""
    outcomes = []
    for evaluations in ({"eval_steps": 1}, {"eval_steps": 0, "final_evaluation": False}):
        trainer = make_selecting(max_steps=3, overwrite_output_dir=True, **evaluations)
        trainer.train()
        outcomes.append(trainer.student.state_dict() | trainer.adaptation.tensors()["teacher"])
    assert all(torch.equal(tensor, outcomes[1][name]) for name, tensor in outcomes[0].items())


@pytest.mark.parametrize("recipe", ["dacs", "source_only"])
def test_scores_without_labels_stand_alone(recipe, make_selecting):
    results = make_selecting(target_labels=False, recipe=recipe, max_steps=2).train()
    assert results["mean_iou"] is results["best"] is None
    expected = {"step", "source_mean_iou"} | LABEL_FREE - ({"teacher_agreement"} if recipe == "source_only" else set())
    assert results["evaluations"][-1].keys() == expected


def test_nothing_is_measured_where_nothing_is_asked(make_trainer):
    trainer = make_trainer(selection_images=0)
    alone = UdaTrainer(trainer.student, trainer.args, trainer.source, trainer.target)
    assert not alone.evaluations
    with pytest.raises(ValueError, match="nothing to evaluate on: give it eval_domain"):
        alone.evaluate()
    assert LABEL_FREE.isdisjoint(trainer.train())


@pytest.mark.parametrize("metric", ["prediction_entropy", "mean_iou"])
def test_the_best_network_is_exported_and_marked(metric, make_selecting, tmp_path):
    trainer = make_selecting(metric_for_best_model=metric, max_steps=3)
    weights = {}
    note = trainer.evaluations.note

    def keep_and_note(step, scores):
        weights[step] = {name: tensor.clone() for name, tensor in trainer.student.to_inference().state_dict().items()}
        return note(step, scores)

    trainer.evaluations.note = keep_and_note
    results = trainer.train()
    best, history = results["best"], results["evaluations"]
    chosen = (min if metric == "prediction_entropy" else max)(history, key=lambda entry: entry[metric])
    assert best == {
        "metric": metric,
        "value": chosen[metric],
        "step": chosen["step"],
        "mean_iou": chosen["mean_iou"],
        "picked_by_target_labels": metric == "mean_iou",
    }
    exported = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run/best").state_dict()
    assert all(torch.equal(tensor, exported[name]) for name, tensor in weights[best["step"]].items())
    at_best = json.loads((tmp_path / "run/best/results.json").read_text())
    assert (at_best["best"], at_best["steps"], at_best["mean_iou"]) == (best, best["step"], best["mean_iou"])
    card = render_model_card(tmp_path / "run/best")
    assert f"`{metric}`" in card
    assert ("Picked by target labels" in card) == (metric == "mean_iou")
    assert f"`{metric}`" not in render_model_card(tmp_path / "run")  # the final network was not picked


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_full_disk_costs_the_export_not_the_run(error, make_selecting, tmp_path, monkeypatch):
    trainer = make_selecting(metric_for_best_model="mean_iou", max_steps=3)
    values = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(trainer.evaluations, "measure", lambda *_: {"mean_iou": next(values), "per_class_iou": {}})

    def fail_at_second(path):
        if trainer.step == 2:
            raise error

    monkeypatch.setattr(best_network, "sync", fail_at_second)
    results = trainer.train()
    assert [failure["step"] for failure in results["failed_saves"]] == [2]
    assert "No space left" in results["failed_saves"][0]["reason"]
    assert results["best"]["step"] == 3  # better than the first, which was the last that could be written
    assert json.loads((tmp_path / "run/best/results.json").read_text())["best"] == results["best"]


def test_by_default_the_best_is_a_note(make_selecting, tmp_path):
    best = make_selecting(max_steps=2).train()["best"]
    assert best["picked_by_target_labels"]
    assert not (tmp_path / "run/best").exists()


@pytest.mark.parametrize("metric", ["teacher_agreement", "prediction_stability"])
def test_resumed_equals_uninterrupted(metric, make_selecting, tmp_path):
    flags = {"metric_for_best_model": metric, "save_steps": 1, "max_steps": 4}
    straight = make_selecting(**flags).train()
    for folder in ("checkpoint-3", "checkpoint-4", "results.json", "config.json", "model.safetensors"):
        path = tmp_path / "run" / folder
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = (tmp_path / "run/best/model.safetensors").read_bytes()
    resumed = make_selecting(**flags, resume_from_checkpoint="latest").train()
    for name in ("evaluations", "best", "per_class_iou"):
        assert resumed[name] == straight[name]
    assert (tmp_path / "run/best/model.safetensors").read_bytes() == kept


def test_the_best_network_comes_along_to_another_folder(make_selecting, tmp_path):
    flags = {"metric_for_best_model": "teacher_agreement", "save_steps": 2}
    straight = make_selecting(**flags, max_steps=2).train()
    folder = str(tmp_path / "run/checkpoint-2")
    moved = make_selecting(
        **flags, max_steps=3, resume_from_checkpoint=folder, output_dir=str(tmp_path / "other")
    ).train()
    assert moved["evaluations"][:2] == straight["evaluations"][:1] + moved["evaluations"][1:2]
    note = json.loads((tmp_path / "other/best/results.json").read_text())["best"]
    assert note == moved["best"]


def test_a_score_that_will_not_be_measured_is_refused_at_the_start(make_trainer, make_selecting):
    with pytest.raises(ValueError, match="source_mean_iou is not measured in this run: choose one of mean_iou, "):
        make_trainer(metric_for_best_model="source_mean_iou")
    with pytest.raises(ValueError, match="teacher_agreement is not measured"):
        make_selecting(recipe="source_only", metric_for_best_model="teacher_agreement")


def test_few_images_are_looked_at(make_selecting):
    """An image that is not asked for is not decoded."""
    trainer = make_selecting(selection_images=2)
    seen = []

    def counted(domain):
        def decode(row):
            seen.append(row["name"])
            return domain.decode(row)

        return replace(domain, decode=decode)

    evaluations = Evaluations(
        trainer.args, trainer.accelerator, None, counted(trainer.target), counted(trainer.source), has_teacher=False
    )
    evaluations.measure(trainer.student.to_inference(), None)
    names = [row["name"] for row in islice(trainer.target.rows, 5)]
    assert sorted(seen) == sorted([names[0], names[2]] * 2)


def test_a_state_that_is_none_is_refused(make_selecting):
    evaluations = make_selecting().evaluations
    state = json.loads(json.dumps(evaluations.state_dict()))
    for name in state:
        for wrong in ({**state, name: 3}, {key: value for key, value in state.items() if key != name}):
            with pytest.raises(ValueError, match="use another checkpoint"):
                evaluations.load_state_dict(wrong)


def test_predictions_lie_in_the_checkpoint(make_selecting, tmp_path):
    make_selecting(save_steps=2, max_steps=2).train()
    stored = load_file(tmp_path / "run/checkpoint-2/predictions.safetensors")
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in stored.items()} == {
        str(index): (torch.uint8, (16, 24)) for index in range(5)
    }
