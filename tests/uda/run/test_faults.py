"""The fault table of docs/reliability.md, row by row, in whole runs: what the user sees, and that nothing was lost."""

import json
import logging
import os
import resource
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file

from mfm_hf.data.domain import BadExampleError
from mfm_hf.data.workers import WorkerDiedError
from mfm_hf.uda.run import run_lock
from mfm_hf.uda.run.checkpoint import list_checkpoints, step_of
from mfm_hf.uda.run.checkpoint_manifest import DamagedCheckpointError
from mfm_hf.uda.run.preemption import Preempted
from tests.uda.run.test_run_lock import holder

TIMES = {"seconds_per_step", "images_per_second"}


@pytest.fixture
def whole(make_trainer, tmp_path):
    """The folder of a run of 4 steps that nothing interrupts."""
    make_trainer(save_steps=1, output_dir=str(tmp_path / "whole"), final_evaluation=False).train()
    return tmp_path / "whole"


@pytest.fixture
def start(make_trainer):
    """A function that makes a trainer of the same run in another folder."""

    def make(**overrides):
        return make_trainer(**{"save_steps": 1, "final_evaluation": False, **overrides})

    return make


def steps_saved(folder: Path) -> list[int]:
    return [step_of(path) for path in list_checkpoints(folder)]


def log_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same_end(whole: Path, other: Path) -> None:
    for name in ("student", "teacher", "optimizer"):
        one, two = (load_file(folder / f"checkpoint-4/{name}.safetensors") for folder in (whole, other))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name
    assert log_of(whole) == log_of(other)


@contextmanager
def no_room_for_files_above(num_bytes: int):
    """As on a full disk, writing fails where it would, by the system itself and after the first bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def during_step(trainer, step: int, act) -> None:
    """Let something happen while a step is under way."""
    adaptation = trainer.adaptation
    original = adaptation.make_views

    def make_views(*args, **kwargs):
        if adaptation.number + 1 == step:
            act()
        return original(*args, **kwargs)

    adaptation.make_views = make_views


# The disk


def test_disk_full_during_a_checkpoint(start, whole, tmp_path, capsys) -> None:
    trainer = start()
    limits = [no_room_for_files_above(10_000)]
    during_step(trainer, 2, lambda: limits[0].__enter__())
    during_step(trainer, 4, lambda: limits[0].__exit__(None, None, None))
    results = trainer.train()
    assert [failure["step"] for failure in results["failed_saves"]] == [2, 3]
    assert "File too large" in results["failed_saves"][0]["reason"]
    assert "warning: no checkpoint of step 2 (" in capsys.readouterr().out
    assert steps_saved(tmp_path / "run") == [1, 4]
    assert_same_end(whole, tmp_path / "run")


def test_disk_full_during_the_export(start, whole, tmp_path) -> None:
    trainer = start()
    export = trainer.student.save_pretrained

    def save_without_room(folder: Path) -> None:
        with no_room_for_files_above(10_000):
            export(folder)

    trainer.student.save_pretrained = save_without_room
    with pytest.raises(
        OSError, match=r"cannot export the network to .*run \(.*File too large.*\): make room, and resume"
    ):
        trainer.train()
    assert not list((tmp_path / "run").glob("*.safetensors"))
    start(resume_from_checkpoint="latest").train()
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_read_only_output_folder(start) -> None:
    with pytest.raises(OSError, match=r"cannot write to /proc/run \(.*\): choose another --output_dir"):
        start(output_dir="/proc/run").train()  # a folder that even root cannot write to


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damaged_checkpoint(damage, start, whole, tmp_path, caplog) -> None:
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run/checkpoint-4/teacher.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes(content[:-10] if damage == "truncated" else content)
    if damage == "missing":
        file.unlink()
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint-4 is damaged: teacher\.safetensors .*; use another"):
        start(resume_from_checkpoint=str(tmp_path / "run/checkpoint-4")).train()
    with caplog.at_level(logging.WARNING):
        start(resume_from_checkpoint="latest").train()
    assert "checkpoint-4 is damaged: teacher.safetensors" in caplog.text
    assert_same_end(whole, tmp_path / "run")


# The data


def with_a_bad_image(start, domains, tmp_path, how: str, **overrides):
    """A trainer on a copy of the source in which an image has gone bad since the domain was opened."""
    source = tmp_path / "source"
    shutil.copytree(domains / "source", source)
    trainer = start(source=str(source), **overrides)
    file = source / "train/images/3.png"
    if how == "corrupt":
        file.write_bytes(file.read_bytes()[:60])
    else:
        file.unlink()
    return trainer


@pytest.mark.parametrize("how", ["corrupt", "missing"])
def test_bad_image_in_a_stream(how, start, domains, tmp_path) -> None:
    trainer = with_a_bad_image(start, domains, tmp_path, how)
    opened = trainer.source
    with pytest.raises(BadExampleError, match=r"1 of 5 samples in .*source are bad .*: cannot read .*3\.png"):
        trainer.train()
    trainer = start(max_bad_samples=1, resume_from_checkpoint="latest")
    trainer.domains["source"] = opened
    assert trainer.train()["bad_samples"] == {"source": 1, "target": 0}


def test_worker_that_dies(start, whole, tmp_path) -> None:
    trainer = start(dataloader_num_workers=1)
    decode, parent = trainer.source.decode, os.getpid()

    def die_after_a_while(row):
        if os.getpid() != parent and (tmp_path / "run/checkpoint-1").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(row)

    trainer.source = replace(trainer.source, decode=die_after_a_while)
    trainer.domains["source"] = trainer.source
    during_step(trainer, 2, lambda: time.sleep(0.2))
    with pytest.raises(WorkerDiedError, match=r"a process that decodes images died .*: if memory is short, lower"):
        trainer.train()
    assert 1 in steps_saved(tmp_path / "run")
    start(resume_from_checkpoint="latest").train()
    assert_same_end(whole, tmp_path / "run")


def test_data_set_that_ends_early(start, tmp_path) -> None:
    trainer = start()
    trainer.domains["source"] = replace(trainer.source, num_rows=6)
    with pytest.raises(ValueError, match=r"source has 5 rows in epoch 0, not 6 as at the start"):
        trainer.train()
    assert steps_saved(tmp_path / "run") == [1, 2]


# The folder


def test_second_run_in_the_same_folder(start, whole) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    with holder(whole) as (pid, _):
        for overrides in ({}, {"overwrite_output_dir": True}, {"resume_from_checkpoint": "latest"}):
            with pytest.raises(run_lock.FolderInUseError, match=f"is in use by process {pid} on "):
                start(output_dir=str(whole), **overrides).train()
    (whole / run_lock.LOCK_FILE).unlink()
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_a_run_without_a_result_is_in_nobodys_way(start, domains, tmp_path) -> None:
    trainer = with_a_bad_image(start, domains, tmp_path, "corrupt", save_steps=0)
    with pytest.raises(BadExampleError):
        trainer.train()
    assert (tmp_path / "run/training_args.json").exists()
    start(save_steps=0).train()


# Signals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_preempted_run(signum, code, start, tmp_path, capsys) -> None:
    """Between two lines of the log, so that half of the next one is in the checkpoint."""
    start(save_steps=4, output_dir=str(tmp_path / "whole")).train()
    before = signal.getsignal(signum)
    trainer = start(save_steps=4)
    during_step(trainer, 3, lambda: os.kill(os.getpid(), signum))
    with pytest.raises(Preempted) as ended:
        trainer.train()
    assert ended.value.code == code
    assert signal.getsignal(signum) is before
    assert "ended after step 3 of 4: go on with --resume_from_checkpoint latest" in capsys.readouterr().out
    assert steps_saved(tmp_path / "run") == [3]
    start(save_steps=4, resume_from_checkpoint="latest").train()
    assert steps_saved(tmp_path / "run") == [3, 4]
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_preemption_at_the_last_step(start, whole, tmp_path) -> None:
    trainer = start()
    during_step(trainer, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted):
        trainer.train()
    assert not (tmp_path / "run/results.json").exists()
    assert start(resume_from_checkpoint="latest").train()["steps"] == 4
    assert_same_end(whole, tmp_path / "run")


# Going back


def test_the_course_that_was_left_is_forgotten(start, whole, tmp_path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    start(resume_from_checkpoint=str(tmp_path / "run/checkpoint-2"), save_total_limit=2).train()
    assert steps_saved(tmp_path / "run") == [3, 4]
    assert_same_end(whole, tmp_path / "run")


def test_a_run_that_starts_from_anothers_checkpoint(start, whole, tmp_path) -> None:
    results = start(resume_from_checkpoint=str(whole / "checkpoint-3")).train()
    assert results["steps"] == 4
    assert steps_saved(tmp_path / "run") == [4]
    assert steps_saved(whole) == [1, 2, 3, 4]


def test_the_scaler_of_gradients_goes_on(start, tmp_path) -> None:
    scales = []
    for overrides in ({}, {"resume_from_checkpoint": "latest"}):
        trainer = start(max_steps=2, **overrides)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0 if overrides else 1024.0)
        trainer.accelerator.scaler = scaler
        trainer.adaptation.optimizer = AcceleratedOptimizer(trainer.adaptation.optimizer.optimizer, scaler=scaler)
        trainer.train()
        scales.append(scaler.get_scale())
    assert scales == [1024.0, 1024.0]
