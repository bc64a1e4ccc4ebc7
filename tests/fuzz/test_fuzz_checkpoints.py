from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mfm_hf.data.domains import load_domain
from mfm_hf.uda.run import checkpoint as checkpoints
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.run.best_network import recover_best
from mfm_hf.uda.run.checkpoint_manifest import MANIFEST_FILE, DamagedCheckpointError, write_manifest
from mfm_hf.uda.run.collapse import CollapseWatch
from mfm_hf.uda.run.evaluations import Evaluations
from mfm_hf.uda.run.model_selection import GREATER_IS_BETTER, ModelSelection
from mfm_hf.uda.run.run_state import DomainState, RunState, StreamState
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.fuzz.tools import BOTTOMLESS, altered, cases, damaged, only_one_line_errors


def state_of_evaluations() -> dict[str, Any]:
    selection, watch = ModelSelection("teacher_agreement", tuple(GREATER_IS_BETTER)), CollapseWatch()
    selection.update(3, {"teacher_agreement": 0.5, "mean_iou": 0.25})
    watch.update({"road": 0.9, "train": None})
    history = [{"step": 3, "teacher_agreement": 0.5}]
    return {"selection": selection.state_dict(), "collapse_watch": watch.state_dict(), "history": history}


STATE = RunState(
    step=3,
    arguments={"recipe": "dacs", "crop_size": [32, 48]},
    domains={"source": DomainState("game", "train", 5)},
    streams=[{"source": StreamState(6, ("cannot read a.png",))}],
    journals={"log.jsonl": 7},
    parts={"evaluations": state_of_evaluations()},
)
TENSORS = {
    "student": {"a": torch.arange(6.0).reshape(2, 3)},
    "predictions": {"0": torch.zeros(2, 2, dtype=torch.uint8)},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "checkpoint-3"
    checkpoints.save_checkpoint(folder, TENSORS, STATE)
    return folder


@pytest.fixture(scope="module")
def copies(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("copies")

    def copy(number: int) -> Path:
        return Path(shutil.copytree(whole, root / str(number) / "checkpoint-3"))

    return map(copy, count())


def read_all(folder: Path) -> None:
    checkpoints.load_state(folder)
    for name in TENSORS:
        checkpoints.load_tensors(folder, name)


NAMES = ("student.safetensors", "predictions.safetensors", checkpoints.STATE_FILE, MANIFEST_FILE)


@cases(0.12)
@given(name=st.sampled_from(NAMES), data=st.data(), sealed=st.booleans())
def test_damaged_files(whole: Path, copies: Iterator[Path], name: str, data: st.DataObject, sealed: bool) -> None:
    """Damage is found by the manifest; and where the manifest was made for it, by whoever reads the file."""
    folder, content = next(copies), (whole / name).read_bytes()
    changed = data.draw(damaged(content))
    (folder / name).write_bytes(changed)
    if sealed:
        write_manifest(folder)
    elif name != MANIFEST_FILE and changed != content:
        with pytest.raises(DamagedCheckpointError, match=name):
            checkpoints.find_checkpoint(str(folder), folder.parent)
    with only_one_line_errors(names="checkpoint-3"):
        checkpoints.find_checkpoint(str(folder), folder.parent)
        read_all(folder)
    with only_one_line_errors(names="damaged"):
        checkpoints.find_checkpoint(checkpoints.LATEST, folder.parent)
    shutil.rmtree(folder.parent)


@cases(0.05)
@given(name=st.sampled_from([checkpoints.STATE_FILE, MANIFEST_FILE]), data=st.data())
def test_altered_json(whole: Path, copies: Iterator[Path], name: str, data: st.DataObject) -> None:
    folder, content = next(copies), json.loads((whole / name).read_text())
    (folder / name).write_text(json.dumps(data.draw(altered(content))))
    with only_one_line_errors(names="checkpoint-3"):
        if name == MANIFEST_FILE:
            checkpoints.find_checkpoint(str(folder), folder.parent)
        read_all(folder)
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("name", [checkpoints.STATE_FILE, MANIFEST_FILE])
def test_bottomless_json(copies: Iterator[Path], name: str) -> None:
    folder = next(copies)
    (folder / name).write_bytes(BOTTOMLESS)
    with pytest.raises(DamagedCheckpointError, match=name):
        checkpoints.check_manifest(folder) if name == MANIFEST_FILE else checkpoints.load_state(folder)


@pytest.fixture
def evaluations() -> Evaluations:
    args = UdaTrainingArguments(metric_for_best_model="teacher_agreement")
    target = load_domain("streets:real:32x64", "target")
    return Evaluations(args, make_accelerator(args), None, target, None, has_teacher=True)


@cases(0.03)
@given(state=altered(state_of_evaluations()))
@example(state={"selection": {"best": None}, "collapse_watch": {"road": "much"}, "history": []})
def test_altered_state_of_the_evaluations(evaluations: Evaluations, state: Any) -> None:
    with only_one_line_errors(names="checkpoint"):
        evaluations.load_state_dict(state)
        evaluations.note(4, {"teacher_agreement": 0.6, "mean_iou": 0.2})
        evaluations.collapsed_classes({"per_class_iou": {"road": 0.5, "train": 0.0}})
        json.dumps(evaluations.state_dict())


@cases(0.02)
@given(content=damaged(json.dumps({"best": state_of_evaluations()["selection"]["best"]}).encode()))
@example(content=BOTTOMLESS)
def test_notes_of_the_best_network(copies: Iterator[Path], content: bytes) -> None:
    folder = next(copies)
    (folder.parent / "best").mkdir()
    (folder.parent / "best/results.json").write_bytes(content)
    selection = ModelSelection("teacher_agreement", tuple(GREATER_IS_BETTER))
    with only_one_line_errors():
        selection.go_on_with(recover_best(folder.parent, folder, 3))
        selection.update(4, {"teacher_agreement": 0.6})
    shutil.rmtree(folder.parent)
