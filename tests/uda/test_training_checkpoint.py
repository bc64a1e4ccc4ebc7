from pathlib import Path

import pytest
import torch
from torch import nn

from mfm_hf.uda import checkpoint

STATE = {"step": 3, "positions": {"source": 6, "target": 7}, "best": None}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def learn(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        module(torch.randn(5, 3, generator=generator)).square().mean().backward()
        optimizer.step()


def test_training_goes_on_from_what_was_written(tmp_path: Path) -> None:
    straight = network()
    optimizer = torch.optim.AdamW(straight.parameters(), lr=0.1)
    learn(straight, optimizer, range(3))
    tensors = {"student": straight.state_dict(), "optimizer": checkpoint.optimizer_tensors(optimizer, straight)}
    checkpoint.save_checkpoint(tmp_path / "checkpoint-3", tensors, STATE)
    learn(straight, optimizer, range(3, 6))

    resumed = network()
    # In another order: the state belongs to the parameters by their names.
    other = torch.optim.AdamW(list(resumed.parameters())[::-1], lr=0.1)
    learn(resumed, other, range(1))
    resumed.load_state_dict(checkpoint.load_tensors(tmp_path / "checkpoint-3", "student"))
    checkpoint.load_optimizer_tensors(other, resumed, checkpoint.load_tensors(tmp_path / "checkpoint-3", "optimizer"))
    learn(resumed, other, range(3, 6))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert checkpoint.load_state(tmp_path / "checkpoint-3") == STATE


def test_views_of_other_tensors_are_written(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    checkpoint.save_checkpoint(tmp_path / "checkpoint-1", {"student": {"a": matrix.T, "b": matrix[:, 1]}}, STATE)
    loaded = checkpoint.load_tensors(tmp_path / "checkpoint-1", "student")
    assert loaded["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert loaded["b"].tolist() == [1, 4]


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    with pytest.raises(TypeError):  # after the tensors are written
        checkpoint.save_checkpoint(folder, {"student": {"a": torch.ones(1)}}, {"step": object()})
    assert not folder.exists()
    assert checkpoint.list_checkpoints(tmp_path) == []
    checkpoint.save_checkpoint(folder, {"student": {"a": torch.ones(1)}}, STATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1"]
    checkpoint.save_checkpoint(folder, {"teacher": {"a": torch.zeros(1)}}, STATE)  # again, after going back
    assert sorted(path.name for path in folder.iterdir()) == ["teacher.safetensors", "trainer_state.json"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with the checkpoints 9, 10 and 100, and what only looks like one."""
    for step in (100, 9, 10):
        checkpoint.save_checkpoint(tmp_path / f"checkpoint-{step}", {}, STATE)
    for name in ("checkpoint-11", "checkpoint-best", "checkpoint-12.bak"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-best/trainer_state.json").write_text("{}")
    return tmp_path


def steps(run: Path) -> list[str]:
    return [path.name for path in checkpoint.list_checkpoints(run)]


def test_checkpoints_are_listed_in_their_order(run: Path) -> None:
    assert steps(run) == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert checkpoint.find_checkpoint("latest", run) == run / "checkpoint-100"
    assert checkpoint.find_checkpoint(str(run / "checkpoint-9"), Path("elsewhere")) == run / "checkpoint-9"


def test_the_newest_are_kept(run: Path) -> None:
    checkpoint.prune(run, 4)
    assert len(steps(run)) == 3
    checkpoint.prune(run, 2)
    assert steps(run) == ["checkpoint-10", "checkpoint-100"]
    assert (run / "checkpoint-best").exists()


def test_what_is_missing_or_damaged_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*empty: start without --resume_from_checkpoint"):
        checkpoint.find_checkpoint("latest", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint folder .*checkpoint-8: give one that --save_steps"):
        checkpoint.find_checkpoint(str(run / "checkpoint-8"), run)
    with pytest.raises(ValueError, match=r"checkpoint-11 is not a training checkpoint: .*trainer_state\.json"):
        checkpoint.load_state(run / "checkpoint-11")
    (run / "checkpoint-9/trainer_state.json").write_text('{"step": ')
    with pytest.raises(ValueError, match="checkpoint-9 is not a training checkpoint"):
        checkpoint.load_state(run / "checkpoint-9")
    with pytest.raises(ValueError, match=r"checkpoint-10 is damaged: student\.safetensors cannot be read"):
        checkpoint.load_tensors(run / "checkpoint-10", "student")
    (run / "checkpoint-10/student.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"checkpoint-10 is damaged: student\.safetensors cannot be read"):
        checkpoint.load_tensors(run / "checkpoint-10", "student")
