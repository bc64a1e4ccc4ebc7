"""The launch configurations: Accelerate can read them, and they say what their names say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

FOLDER = Path(__file__).parents[1] / "scripts/accelerate_configs"


@pytest.mark.parametrize(
    ("name", "distributed_type", "machines", "on_cpu"),
    [
        ("one_gpu", "NO", 1, False),
        ("several_gpus", "MULTI_GPU", 1, False),
        ("several_machines", "MULTI_GPU", 2, False),
        ("cpu", "NO", 1, True),
    ],
)
def test_accelerate_reads_the_configurations(name: str, distributed_type: str, machines: int, on_cpu: bool) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type == distributed_type
    assert config.num_machines == machines
    assert config.use_cpu == on_cpu
    assert (config.num_processes == 1) == (distributed_type == "NO")


def test_all_configurations_are_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {"one_gpu", "several_gpus", "several_machines", "cpu"}


# Stand-ins for Slurm's commands. That of `srun` ends at once, or when `scancel` says so if a file `waits` is there.
STAND_INS = {
    "scontrol": 'echo "$@" >> scontrol.txt; echo node1',
    "scancel": "touch cancelled",
    "srun": 'printf "%s\\n" "$@" > srun.txt; while [ -e waits ] && [ ! -e cancelled ]; do sleep 0.05; done; exit 0',
}


@pytest.fixture
def submit(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """A function that starts slurm.sh in a folder with stand-ins for Slurm."""
    (tmp_path / "bin").mkdir()
    for name, line in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def submit(*arguments: str) -> subprocess.Popen:
        environment = {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "7",
        }  # fmt: skip
        return subprocess.Popen(["bash", str(FOLDER / "slurm.sh"), *arguments], env=environment, cwd=tmp_path)

    return submit


def test_a_slurm_job_resumes_where_there_is_a_checkpoint(submit, tmp_path: Path) -> None:
    for resume in ([], ["--resume_from_checkpoint", "latest"]):
        assert submit("run", "--recipe", "dacs").wait(timeout=30) == 0
        words = (tmp_path / "srun.txt").read_text().splitlines()
        options = [
            "--output_dir",
            "run",
            "--save_steps",
            "1000",
            "--save_total_limit",
            "2",
            *resume,
            "--recipe",
            "dacs",
        ]
        assert words[-len(options) :] == options
        (tmp_path / "run/checkpoint-1000").mkdir(parents=True, exist_ok=True)


def test_the_launcher_has_the_options_that_slurm_gives_it(submit, tmp_path: Path) -> None:
    assert submit("run").wait(timeout=30) == 0
    text = (tmp_path / "srun.txt").read_text()
    launch = text[text.index("accelerate launch") : text.index("scripts/train_uda.py")]
    flags = set(re.findall(r"--\w+", launch))
    assert len(flags) == 5
    assert flags <= {option for action in launch_command_parser()._actions for option in action.option_strings}


@pytest.mark.parametrize("is_done", [False, True])
def test_a_job_that_is_asked_to_end_is_queued_again_unless_the_run_is_done(is_done, submit, tmp_path: Path) -> None:
    (tmp_path / "waits").touch()
    (tmp_path / "run").mkdir()
    job = submit("run")
    deadline = time.monotonic() + 20
    while not (tmp_path / "srun.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if is_done:
        (tmp_path / "run/results.json").touch()
    job.send_signal(signal.SIGTERM)
    job.wait(timeout=30)
    calls = (tmp_path / "scontrol.txt").read_text().splitlines()
    assert ("requeue 7" in calls) == (not is_done)
