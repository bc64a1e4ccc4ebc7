from pathlib import Path

import pytest

from mfm_hf.uda import run_folder


@pytest.mark.parametrize(
    "name",
    [
        "results.json",
        "log.jsonl",
        "training_args.json",
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "checkpoint-500/trainer_state.json",
        ".checkpoint-500.partial/student.safetensors",
    ],
)
def test_what_a_run_leaves_protects_the_folder(name: str, tmp_path: Path) -> None:
    left = tmp_path / name
    left.parent.mkdir(exist_ok=True)
    left.write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{tmp_path} holds another run: .*--resume_from_checkpoint latest"):
        run_folder.check(tmp_path, resume=False, overwrite=False)
    for allowed in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
        run_folder.check(tmp_path, **allowed)
        assert left.read_text() == "old"
    run_folder.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    run_folder.check(tmp_path, resume=False, overwrite=False)


def test_a_new_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    run_folder.check(tmp_path / "runs/first", resume=False, overwrite=False)
    assert list((tmp_path / "runs/first").iterdir()) == []


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(OSError, match="file"):
            run_folder.check(place, resume=False, overwrite=False)


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
