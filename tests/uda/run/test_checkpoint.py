import logging
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from mfm_hf.uda.run import checkpoint
from mfm_hf.uda.run.checkpoint_manifest import DamagedCheckpointError
from mfm_hf.uda.run.run_state import DomainState, RunState, StreamState

STATE = RunState(
    step=3,
    arguments={"recipe": "dacs", "crop_size": [32, 48]},
    domains={"source": DomainState("game", "train", 5)},
    streams=[{"source": StreamState(6, ("cannot read a.png",))}],
    journals={"log.jsonl": 7},
    parts={"evaluations": {"history": []}},
)
WEIGHTS = {"student": {"a": torch.arange(4.0)}}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def learn(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        module(torch.randn(5, 3, generator=generator)).square().mean().backward()
        optimizer.step()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize("key", ["0.weight/exp_avg", "7.weight/exp_avg", "nonsense"])
def test_the_optimizer_of_another_network_is_refused(key: str) -> None:
    module = network()
    optimizer = torch.optim.AdamW(module.parameters())
    with pytest.raises(RuntimeError, match=f"holds {key} .* fits no parameter"):
        checkpoint.load_optimizer_tensors(optimizer, module, {key: torch.ones(2, 2)})


def test_views_of_other_tensors_are_written(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    checkpoint.save_checkpoint(tmp_path / "checkpoint-1", {"student": {"a": matrix.T, "b": matrix[:, 1]}}, STATE)
    loaded = checkpoint.load_tensors(tmp_path / "checkpoint-1", "student")
    assert loaded["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert loaded["b"].tolist() == [1, 4]


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    for name in ("student", "teacher"):
        checkpoint.save_checkpoint(folder, {name: {"a": torch.ones(1)}}, STATE)
        assert names_in(tmp_path) == ["checkpoint-1"]
        assert names_in(folder) == ["manifest.json", f"{name}.safetensors", "trainer_state.json"]
        assert checkpoint.find_checkpoint(str(folder), tmp_path) == folder


@pytest.mark.parametrize("room", [300, 2_000])  # bytes: for less than the weights, and for less than the state
def test_a_save_without_room_changes_nothing(room: int, tmp_path: Path) -> None:
    """The limit is the system's own, so that writing fails where it would on a full disk, after the first bytes."""
    checkpoint.save_checkpoint(tmp_path / "checkpoint-1", WEIGHTS, STATE)
    long = RunState(**{**vars(STATE), "arguments": {"note": "x" * 4000}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        for name in ("checkpoint-1", "checkpoint-2"):
            with pytest.raises(OSError, match="File too large"):
                checkpoint.save_checkpoint(tmp_path / name, {"student": {"a": torch.ones(100)}}, long)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path) == ["checkpoint-1"]
    found = checkpoint.find_checkpoint("latest", tmp_path)
    assert torch.equal(checkpoint.load_tensors(found, "student")["a"], WEIGHTS["student"]["a"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with the checkpoints 9, 10 and 100, and what only looks like one."""
    for step in (100, 9, 10):
        checkpoint.save_checkpoint(tmp_path / f"checkpoint-{step}", WEIGHTS, STATE)
    for name in ("checkpoint-best", "checkpoint-12.bak", ".checkpoint-11.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    return tmp_path


def steps(run: Path) -> list[int]:
    return [checkpoint.step_of(path) for path in checkpoint.list_checkpoints(run)]


def test_checkpoints_are_listed_in_their_order(run: Path) -> None:
    assert steps(run) == [9, 10, 100]
    assert checkpoint.find_checkpoint("latest", run) == run / "checkpoint-100"
    assert checkpoint.find_checkpoint(str(run / "checkpoint-9"), Path("elsewhere")) == run / "checkpoint-9"


@pytest.mark.parametrize(
    ("newest", "limit", "kept"),
    [(100, None, [9, 10, 100]), (100, 4, [9, 10, 100]), (100, 2, [10, 100]), (100, 1, [100]), (10, 1, [10])],
)
def test_the_newest_are_kept(newest: int, limit: int | None, kept: list[int], run: Path) -> None:
    checkpoint.prune(run / f"checkpoint-{newest}", limit)
    assert steps(run) == kept
    assert (run / "checkpoint-best").exists()


def test_those_of_a_course_that_was_left_go(run: Path) -> None:
    checkpoint.prune(run / "checkpoint-10", None)
    assert steps(run) == [9, 10]


# Damage: what is done to the folder, and what the message says of it.


def cut(folder: Path) -> None:
    file = folder / "student.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip(folder: Path) -> None:
    file = folder / "student.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 4  # in a weight, where nothing else would notice
    file.write_bytes(content)


def change_the_state(folder: Path) -> None:
    file = folder / "trainer_state.json"
    file.write_text(file.read_text().replace('"step": 3', '"step": 4'))


def lose_a_file(folder: Path) -> None:
    (folder / "student.safetensors").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def spoil_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": [')


def list_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": {"trainer_state.json": 3}}')


def point_elsewhere(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": {"../notes": {"size": 1, "sha256": "0"}}}')


DAMAGES = {
    cut: r"student.safetensors has \d+ bytes instead of \d+",
    flip: "student.safetensors is not what was written",
    change_the_state: "trainer_state.json is not what was written",
    lose_a_file: r"student.safetensors cannot be read \(No such file",
    lose_the_manifest: "it has no manifest.json, which is written last",
    spoil_the_manifest: "manifest.json cannot be read",
    list_the_manifest: "manifest.json cannot be read",
    point_elsewhere: "manifest.json names a file elsewhere",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_passed_over_or_refused(damage, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(run / "checkpoint-100")
    with caplog.at_level(logging.WARNING):
        assert checkpoint.find_checkpoint("latest", run) == run / "checkpoint-10"
    (record,) = caplog.records
    caplog.clear()
    with pytest.raises(DamagedCheckpointError, match=f"checkpoint-100 is damaged: {DAMAGES[damage]}.*; use another"):
        checkpoint.find_checkpoint(str(run / "checkpoint-100"), run)
    assert record.getMessage().startswith(f"{run}/checkpoint-100 is damaged: ")


def test_nothing_but_damaged_checkpoints_is_an_error(run: Path) -> None:
    for folder in checkpoint.list_checkpoints(run):
        cut(folder)
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged: start anew with --overwrite_output_dir"):
        checkpoint.find_checkpoint("latest", run)


def test_what_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*empty: start without --resume_from_checkpoint"):
        checkpoint.find_checkpoint("latest", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint folder .*checkpoint-8: give one that --save_steps"):
        checkpoint.find_checkpoint(str(run / "checkpoint-8"), run)


@pytest.mark.parametrize("content", [b"", b"short", b'{"step": ', b"[" * 100_000, b"\xff\xfe", b"3"])
def test_what_cannot_be_read_is_named(content: bytes, run: Path) -> None:
    """Though the manifest agrees: somebody may have written it anew."""
    (run / "checkpoint-9/trainer_state.json").write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint-9 is damaged: trainer_state\.json cannot be read"):
        checkpoint.load_state(run / "checkpoint-9")
    (run / "checkpoint-9/student.safetensors").write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint-9 is damaged: student\.safetensors cannot be read"):
        checkpoint.load_tensors(run / "checkpoint-9", "student")
