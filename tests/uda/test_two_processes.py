"""Training by two processes: the ranks agree, and what they measure together is what one process measures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import debug_launcher
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSemanticSegmentation

from mfm_hf.data.domains import load_domain
from mfm_hf.evaluation.evaluator import evaluate_model
from mfm_hf.uda.trainer import UdaTrainer
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.tiny_models import tiny_model

ROOT = Path(__file__).parents[2]
# In the second to the fourth, the last pass of a step misses a part of the network.
RUNS = {
    "together": {"encode": "views_together", "save_steps": 3},
    "source": {"encode": "one_by_one", "mfm_view": "source"},
    "encoder": {"encode": "one_by_one", "mfm_gradient": "encoder", "mfm_start_step": 1},
    "decoder": {"encode": "one_by_one", "mfm_gradient": "decoder"},
    "running": {"teacher_batch_norm": "running"},
}


def train_all(domains: str, output: str) -> None:
    """Train every run in this process, one of two, and write down with which weights it ends."""
    for name, options in RUNS.items():
        args = UdaTrainingArguments(
            source=f"{domains}/source",
            target=f"{domains}/target",
            output_dir=f"{output}/{name}",
            mfm=True,
            crop_size=[32, 48],
            max_steps=3,
            learning_rate=1e-3,
            eval_steps=0,
            dataloader_num_workers=0,
            use_cpu=True,
            **options,
        )
        torch.manual_seed(0)
        source, target = load_domain(args.source, "source"), load_domain(args.target, "target")
        trainer = UdaTrainer(tiny_model(), args, source, target, load_domain(args.target, "eval"))
        trainer.train()
        rank = trainer.accelerator.process_index
        save_file(trainer.student.state_dict(), f"{output}/{name}_{rank}.safetensors")
        save_file(trainer.adaptation.teacher.model.state_dict(), f"{output}/{name}_teacher_{rank}.safetensors")


def test_ranks_end_with_one_network(domains, tmp_path):
    # From a fresh process, as one that has used several threads cannot be forked safely.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(domains), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
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
    first, second = (load_file(tmp_path / f"running_teacher_{rank}.safetensors") for rank in (0, 1))
    for key, value in first.items():  # its statistics are those of a student that all processes share
        assert torch.equal(value, second[key]), key


if __name__ == "__main__":
    debug_launcher(train_all, args=tuple(sys.argv[1:]), num_processes=2)
