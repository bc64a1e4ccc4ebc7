"""Two processes against one with the same images: under `--batch_statistics global` they train the same network."""

import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import debug_launcher
from safetensors.torch import load_file, save_file
from torch import Tensor

from mfm_hf.data.domains import load_domain
from mfm_hf.uda.objectives import FeatureDistance, Objective, Segmentation
from mfm_hf.uda.resolution import resolve_recipe
from mfm_hf.uda.run.streams import Streams
from mfm_hf.uda.trainer import UdaTrainer
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.tiny_models import tiny_model

ROOT = Path(__file__).parents[2]
STEPS = 10
GLOBAL_BATCH = 4
RUNS = {
    "dacs": {"recipe": "dacs"},
    "mic": {"recipe": "mic", "class_mix_scope": "image", "encode": "one_by_one"},
    # The confidence is that of a micro-batch, unless every pixel counts as confident.
    "accumulated": {"recipe": "dacs", "gradient_accumulation_steps": 2, "pseudo_label_threshold": 0.0},
    "per_process": {"recipe": "dacs", "batch_statistics": "process"},
}


def on_running_statistics(term: Objective) -> Objective:
    """The term with BatchNorm as it is in all processes, and with a feature distance that small crops can have."""
    term = replace(term, batch_norm="running")
    return replace(term, min_ratio=0.2) if isinstance(term, FeatureDistance) else term


def make_trainer(domains: str, output: str, num_processes: int, **options: object) -> UdaTrainer:
    num_parts = num_processes * options.get("gradient_accumulation_steps", 1)
    args = UdaTrainingArguments(
        **{
            "source": f"{domains}/source",
            "target": f"{domains}/target",
            "output_dir": output,
            "mfm": True,
            "crop_size": [64, 64],
            "max_steps": 100,
            "warmup_steps": 0,
            "learning_rate": 2e-5,  # AdamW makes whole steps of rounding noise where a gradient is zero
            "backbone": "stand-in",
            "rare_class_sampling": False,
            "teacher_batch_norm": "running",
            "pseudo_label_threshold": 0.06,
            "batch_statistics": "global",
            "per_device_train_batch_size": GLOBAL_BATCH // num_parts,
            "dataloader_num_workers": 0,
            "use_cpu": True,
            **options,
        }
    )
    torch.manual_seed(0)
    network = tiny_model("hrda" if args.recipe == "mic" else "segformer")
    for module in network.modules():  # drawn by each process for its own images
        if "Dropout" in type(module).__name__:
            module.p = 0.0
        elif "DropPath" in type(module).__name__:
            module.drop_prob = 0.0
    recipe = resolve_recipe(args)
    recipe = replace(recipe, objectives=tuple(map(on_running_statistics, recipe.objectives)))
    source, target = load_domain(args.source, "source"), load_domain(args.target, "target")
    return UdaTrainer(network, args, source, target, recipe=recipe)


def take_steps(trainer: UdaTrainer, number: int = STEPS) -> dict[str, Tensor]:
    """Train, and return the losses of every step and the networks at the end."""
    domains = {"source": trainer.source, "target": trainer.target}
    losses = []
    with closing(Streams(domains, trainer.args, trainer.recipe, trainer.accelerator)) as streams:
        for _ in range(number):
            batches = streams.next_batches()
            losses.append(trainer.training_step(batches["source"], batches["target"]))
    outcome = {f"loss.{name}": torch.stack([step[name] for step in losses]) for name in losses[0]}
    outcome |= {f"student.{name}": value.detach() for name, value in trainer.student.named_parameters()}
    return outcome | {f"teacher.{name}": value for name, value in trainer.adaptation.teacher.model.named_parameters()}


def spoil_a_step(trainer: UdaTrainer, number: int) -> None:
    """Let one process alone have a loss that is not a number."""
    plain = Segmentation.loss

    def loss(self, student, features, view):
        value = plain(self, student, features, view)
        return value * float("nan") if trainer.step == number and trainer.accelerator.process_index == 1 else value

    Segmentation.loss = loss


def train_all(domains: str, output: str) -> None:
    """Train every run in this process, one of two, and write down what comes out."""
    for name, options in RUNS.items():
        trainer = make_trainer(domains, f"{output}/{name}", num_processes=2, **options)
        save_file(take_steps(trainer), f"{output}/{name}_{trainer.accelerator.process_index}.safetensors")
    trainer = make_trainer(domains, f"{output}/spoiled", num_processes=2, recipe="dacs")
    spoil_a_step(trainer, number=1)
    save_file(take_steps(trainer, 3), f"{output}/spoiled_{trainer.accelerator.process_index}.safetensors")


@pytest.fixture(scope="module")
def outcomes(domains, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    # From a fresh process, as one that has used several threads cannot be forked safely.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(domains), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def both(outcomes: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return tuple(load_file(outcomes / f"{name}_{rank}.safetensors") for rank in (0, 1))


def alone(name: str, domains: Path, tmp_path: Path) -> dict[str, Tensor]:
    options = {**RUNS[name], "gradient_accumulation_steps": 1}
    return take_steps(make_trainer(str(domains), str(tmp_path), num_processes=1, **options))


@pytest.mark.parametrize("name", ["dacs", "mic", "accumulated"])
def test_two_processes_train_the_network_of_one(name, outcomes, domains, tmp_path):
    first, second = both(outcomes, name)
    expected = alone(name, domains, tmp_path)
    assert {"loss.source", "loss.mixed", "loss.mfm"} <= expected.keys()
    if name == "mic":
        assert expected["loss.feature_distance"].any()
        assert {"loss.masked"} <= expected.keys()
    for key, value in expected.items():
        if key.startswith("loss."):
            torch.testing.assert_close((first[key] + second[key]) / 2, value, rtol=0, atol=1e-5, msg=key)
        else:
            assert torch.equal(first[key], second[key])
            torch.testing.assert_close(first[key], value, rtol=0, atol=1e-5, msg=key)


def test_statistics_of_each_process_give_another_network(outcomes, domains, tmp_path):
    first, second = both(outcomes, "per_process")
    expected = alone("per_process", domains, tmp_path)
    assert ((first["loss.mixed"] + second["loss.mixed"]) / 2 - expected["loss.mixed"]).abs().max() > 1e-3
    assert max((first[key] - value).abs().max() for key, value in expected.items() if key.startswith("student.")) > 1e-4


def test_a_step_that_one_process_spoils_is_skipped_by_all(outcomes):
    first, second = both(outcomes, "spoiled")
    assert [step.isfinite().item() for step in second["loss.source"]] == [True, False, True]
    assert first["loss.source"].isfinite().all()
    for key, value in first.items():
        if not key.startswith("loss."):
            assert torch.equal(value, second[key])
            assert value.isfinite().all()
    (line,) = (outcomes / "spoiled/skipped_steps.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["step"] == 2
    assert record["losses_not_finite"] == ["mixed", "source"]
    assert {role: len(names) for role, names in record["samples"].items()} == {"source": 4, "target": 4}


if __name__ == "__main__":
    debug_launcher(train_all, args=tuple(sys.argv[1:]), num_processes=2)
