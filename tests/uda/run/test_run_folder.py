from pathlib import Path

import pytest

from mfm_hf.uda.run import run_folder

FREE = {"resume_from": None, "overwrite": False}


def leave(folder: Path, name: str) -> Path:
    left = folder / name
    left.parent.mkdir(exist_ok=True)
    left.write_text("old")
    return left


@pytest.mark.parametrize(
    "name",
    [
        "results.json",
        "config.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "checkpoint-500/trainer_state.json",
        "best/model.safetensors",
    ],
)
def test_what_a_run_leaves_protects_the_folder(name: str, tmp_path: Path) -> None:
    left = leave(tmp_path, name)
    (tmp_path / "notes.txt").write_text("mine")
    for resume_from in (None, "/elsewhere/checkpoint-500", "elsewhere"):
        with pytest.raises(FileExistsError, match=f"{tmp_path} holds another run: .*--resume_from_checkpoint latest"):
            run_folder.check(tmp_path, resume_from=resume_from, overwrite=False)
    for allowed in ({"resume_from": "latest"}, {"resume_from": f"{tmp_path}/checkpoint-500"}, {"overwrite": True}):
        run_folder.check(tmp_path, **{**FREE, **allowed})
        assert left.read_text() == "old"
    run_folder.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    run_folder.check(tmp_path, **FREE)


@pytest.mark.parametrize(
    "name",
    [
        "log.jsonl",
        "skipped_steps.jsonl",
        "training_args.json",
        "preprocessor_config.json",
        "pictures/step-1.png",
        ".checkpoint-500.partial/student.safetensors",
        ".checkpoint-400.removed/student.safetensors",
        ".best.partial/config.json",
        ".export-x/model.safetensors",
        ".results.json.tmp",
    ],
)
def test_a_run_without_a_result_does_not(name: str, tmp_path: Path) -> None:
    leave(tmp_path, name)
    run_folder.check(tmp_path, **FREE)
    run_folder.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_going_back_leaves_what_was_there_at_the_checkpoint(tmp_path: Path) -> None:
    for name in ("checkpoint-2/student.safetensors", "config.json", "pictures/step-1.png"):
        leave(tmp_path, name)
    (tmp_path / "log.jsonl").write_text("one\ntwo\n")
    sizes = run_folder.journal_sizes(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name in (".checkpoint-4.partial/student.safetensors", ".export-x/model.safetensors", "skipped_steps.jsonl"):
        leave(tmp_path, name)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write("three\nhalf a li")
    run_folder.go_back(tmp_path, sizes)
    assert (tmp_path / "log.jsonl").read_text() == "one\ntwo\n"
    assert (tmp_path / "skipped_steps.jsonl").read_text() == ""
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "skipped_steps.jsonl"])
    run_folder.go_back(tmp_path, {"log.jsonl": 100})  # never made longer
    assert (tmp_path / "log.jsonl").read_text() == "one\ntwo\n"


def test_a_new_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    run_folder.check(tmp_path / "runs/first", **FREE)
    assert list((tmp_path / "runs/first").iterdir()) == []


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file/below", Path("/proc/runs")):
        with pytest.raises(OSError, match=f"cannot write to {place} .*: choose another --output_dir"):
            run_folder.check(place, **FREE)


def test_an_export_replaces_the_older_one(tmp_path: Path) -> None:
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json", "results.json"):
        (tmp_path / name).write_text("old")

    def write(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "model.safetensors").write_text("new")
        (folder / "config.json").write_text("new")

    run_folder.write_export(tmp_path, write)
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert contents == {"model.safetensors": "new", "config.json": "new", "results.json": "old"}


def test_an_export_that_fails_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("old")

    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_folder.write_export(tmp_path, write)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"model.safetensors": "old"}
