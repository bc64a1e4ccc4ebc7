import json
import shutil
from pathlib import Path

import pytest

from mfm_hf.uda.run.best_network import recover_best, write_best


def note_of(step: int) -> dict[str, object]:
    return {"metric": "mean_iou", "value": 0.5, "step": step, "mean_iou": 0.5, "picked_by_target_labels": True}


def write_step(folder: Path, step: int) -> None:
    (folder / "model.safetensors").write_text(f"weights of {step}")
    (folder / "results.json").write_text(json.dumps({"best": note_of(step)}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run whose best network so far is of step 20."""
    (tmp_path / "run").mkdir()
    write_best(tmp_path / "run", lambda folder: write_step(folder, 20))
    return tmp_path / "run"


def test_a_better_network_takes_the_place_as_a_whole(run: Path) -> None:
    (run / "best/shard-2.safetensors").write_text("of an older one")
    write_best(run, lambda folder: write_step(folder, 30))
    assert sorted(path.name for path in (run / "best").iterdir()) == ["model.safetensors", "results.json"]
    assert (run / "best/model.safetensors").read_text() == "weights of 30"
    assert [path.name for path in run.iterdir()] == ["best"]


def test_a_network_that_cannot_be_written_leaves_the_one_before(run: Path) -> None:
    def fail(folder: Path) -> None:
        write_step(folder, 30)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_best(run, fail)
    assert (run / "best/model.safetensors").read_text() == "weights of 20"
    assert [path.name for path in run.iterdir()] == ["best"]
    (run / ".export-best").mkdir()  # as a process leaves it that is killed
    (run / ".export-best/shard-2.safetensors").write_text("half")
    write_best(run, lambda folder: write_step(folder, 40))
    assert sorted(path.name for path in (run / "best").iterdir()) == ["model.safetensors", "results.json"]


@pytest.mark.parametrize("step", [10, 30])
def test_a_run_goes_on_with_its_own_even_if_found_after_the_checkpoint(step: int, run: Path) -> None:
    assert recover_best(run, run / f"checkpoint-{step}", step) == note_of(20)


@pytest.mark.parametrize(("step", "expected"), [(20, note_of(20)), (10, None)])
def test_another_folder_takes_over_what_the_checkpoint_knew_of(
    step: int, expected: object, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    assert recover_best(tmp_path / "other", run / f"checkpoint-{step}", step) == expected
    assert (tmp_path / "other/best/model.safetensors").exists() == (expected is not None)
    assert (run / "best/model.safetensors").exists()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"best": null}', '{"best": {"step": "20"}}'])
def test_a_folder_without_a_note_holds_no_best_network(content: str | None, run: Path) -> None:
    (run / "best/results.json").write_text(content) if content is not None else shutil.rmtree(run / "best")
    assert recover_best(run, run / "checkpoint-20", 20) is None
