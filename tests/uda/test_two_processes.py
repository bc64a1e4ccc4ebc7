"""Training by two processes: the ranks agree, and what they measure together is what one process measures."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSemanticSegmentation

from mfm_hf.data.domain import load_domain
from mfm_hf.evaluation.evaluator import evaluate_model

# In the last three, the last pass of a step misses a part of the network.
RUNS = {
    "together": {"encode": "views_together", "save_steps": 3},
    "source": {"encode": "one_by_one", "mfm_view": "source"},
    "encoder": {"encode": "one_by_one", "mfm_gradient": "encoder", "mfm_start_step": 1},
    "decoder": {"encode": "one_by_one", "mfm_gradient": "decoder"},
}


def train_all(make_trainer, root: Path) -> None:
    """Train every run in this process, one of two, and write down with which weights it ends."""
    # What a forked process inherits is the state of the tests, and threads that do not exist in it.
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    torch.set_num_threads(1)
    for name, options in RUNS.items():
        trainer = make_trainer(mfm=True, max_steps=3, output_dir=str(root / name), **options)
        trainer.train()
        save_file(trainer.student.state_dict(), root / f"{name}_{trainer.accelerator.process_index}.safetensors")


def test_ranks_end_with_one_network(make_trainer, domains, tmp_path):
    debug_launcher(train_all, args=(make_trainer, tmp_path), num_processes=2)
    for name in RUNS:
        first, second = (load_file(tmp_path / f"{name}_{rank}.safetensors") for rank in (0, 1))
        for key, value in first.items():
            assert torch.equal(value, second[key]), (name, key)
        exported = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / name)
        for key, value in exported.state_dict().items():
            assert torch.equal(value, first[key]), (name, key)
        results = json.loads((tmp_path / name / "results.json").read_text())
        assert results["num_processes"] == 2
        alone = evaluate_model(exported, load_domain(str(domains / "target"), "eval"))
        assert results["per_class_iou"] == pytest.approx(alone["per_class_iou"])
    assert (tmp_path / "together/checkpoint-3/trainer_state.json").exists()
