"""Two processes, one of which meets more bad samples than the other, or has a signal: both go on, or end, together."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import torch
from accelerate import debug_launcher
from safetensors.torch import load_file

from mfm_hf.data.domains import load_domain
from mfm_hf.uda.run.checkpoint import load_state
from mfm_hf.uda.run.preemption import Preempted
from mfm_hf.uda.trainer import UdaTrainer
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.tiny_models import tiny_model

ROOT = Path(__file__).parents[3]


RUNS = {"whole": {}, "resumed": {"resume_from_checkpoint": "whole/checkpoint-2"}, "preempted": {"save_steps": 0}}


def train_all(domains: str, output: str) -> None:
    """Train a run, one that starts from its first checkpoint, and one that a signal ends, in one process of two."""
    os.chdir(output)
    for name, options in RUNS.items():
        args = UdaTrainingArguments(
            source=f"{domains}/source",
            target=f"{domains}/target",
            output_dir=name,
            crop_size=[32, 48],
            max_steps=6,
            logging_steps=1,
            learning_rate=1e-3,
            eval_steps=0,
            final_evaluation=False,
            dataloader_num_workers=0,
            use_cpu=True,
            **{"save_steps": 2, **options},
        )
        torch.manual_seed(0)
        source, target = load_domain(args.source, "source"), load_domain(args.target, "target")
        trainer = UdaTrainer(tiny_model(rebuilder=None), args, source, target)
        rank = trainer.accelerator.process_index
        if name == "preempted" and rank == 1:
            send_in_step(trainer, 4, signal.SIGTERM)
        try:
            trainer.train()
        except Preempted as ended:
            Path(f"code_{rank}").write_text(str(ended.code))


def send_in_step(trainer: UdaTrainer, step: int, signum: int) -> None:
    original = trainer.adaptation.make_views

    def make_views(*args, **kwargs):
        if trainer.step + 1 == step:
            os.kill(os.getpid(), signum)
        return original(*args, **kwargs)

    trainer.adaptation.make_views = make_views


def assert_same_tensors(one: Path, other: Path) -> None:
    for name in ("student", "teacher", "optimizer"):
        tensors, others = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
        assert all(torch.equal(tensors[key], others[key]) for key in tensors), name


def test_every_process_goes_on_from_its_own_position(domains: Path, tmp_path: Path) -> None:
    shutil.copytree(domains, tmp_path / "domains")
    (tmp_path / "domains/target/train/images/2.png").write_text("no image")
    # From a fresh process, as one that has used several threads cannot be forked safely.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(tmp_path / "domains"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second = (process["target"] for process in load_state(tmp_path / "whole/checkpoint-2").streams)
    assert first.position != second.position
    assert "2.png" in "".join(first.bad_samples + second.bad_samples)
    assert_same_tensors(tmp_path / "whole/checkpoint-6", tmp_path / "resumed/checkpoint-6")
    lines = [(tmp_path / run / "log.jsonl").read_text().splitlines()[-4:] for run in ("whole", "resumed")]
    losses = [[json.loads(line)["loss/mixed"] for line in run] for run in lines]
    assert losses[0] == losses[1]
    # A signal to one of two ended both, after the same step.
    assert [(tmp_path / f"code_{rank}").read_text() for rank in (0, 1)] == ["143", "143"]
    assert_same_tensors(tmp_path / "whole/checkpoint-4", tmp_path / "preempted/checkpoint-4")


if __name__ == "__main__":
    debug_launcher(train_all, args=tuple(sys.argv[1:]), num_processes=2)
