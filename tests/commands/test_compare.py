"""Suites of trainings: read, planned, done, resumed, and laid out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mfm_hf.commands import compare, train
from mfm_hf.commands.comparison import suite as suites
from mfm_hf.commands.comparison.table import Line, as_markdown, spread
from mfm_hf.commands.comparison.trainings import plan
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder

SUITE = {
    "title": "two runs",
    "flags": {"max_steps": 2, "save_steps": 1, "eval_steps": 0},
    "runs": [
        {"name": "start", "flags": {"recipe": "source_only"}, "shown": False},
        {"name": "DACS", "flags": {"recipe": "dacs"}, "start_from": "start", "paper": 52.1},
        {"name": "DACS + MFM", "flags": {"recipe": "dacs", "mfm": True}, "start_from": "start", "baseline": "DACS"},
    ],
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> list[str]:
    """Options that make a training of any suite a matter of a second."""
    folder = tmp_path_factory.mktemp("data")
    for name, split in (("game", "train"), ("real", "train"), ("real", "validation")):
        domain = load_domain(f"streets:{name}:64x64#{split}", "eval")
        write_folder(domain, folder / name / split, limit=4)
    return [
        *("--source", str(folder / "game"), "--target", str(folder / "real"), "--backbone", "tiny"),
        *("--crop_size", "64", "--per_device_train_batch_size", "1", "--mfm_dim", "32", "--mfm_grid", "2"),
        *("--dataloader_num_workers", "0", "--logging_steps", "1", "--rare_class_min_pixels", "1", "--use_cpu"),
        *("--selection_images", "0"),
    ]


@pytest.fixture
def suite_file(tmp_path):
    def write(content):
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


@pytest.fixture
def in_process(monkeypatch):
    """Trainings run in this process, and are listed. `kill` names one that is cut off after its first step."""

    class Trainings(list):
        kill: str | None = None

    done = Trainings()

    def run(command, check):
        assert command[:4] == [sys.executable, "-m", "mfm_hf", "train"]
        done.append(command[4:])
        folder = command[command.index("--output_dir") + 1]
        flags = command[4:]
        if done.kill is not None and done.kill in folder:
            done.kill = None
            flags = [*flags, "--max_steps", "1"]  # leaves checkpoint-1, as a killed run would, ...
            train.main(flags)
            (Path(folder) / "results.json").unlink()  # ... and no results
            return subprocess.CompletedProcess(command, -15)
        train.main(flags)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return done


@pytest.mark.parametrize("name", suites.suite_names())
def test_every_suite_has_its_bounds_and_flags_that_train_accepts(name, tmp_path):
    suite = suites.load_suite(name)
    assert any("source-only" in run.name for run in suite.runs)
    assert any(run.oracle for run in suite.runs)
    planned = plan(suite, [0, 1], tmp_path, {"source": "streets:game", "target": "streets:real"}, [])
    assert len(planned) == 2 * len(suite.runs)
    assert len(compare._check(planned)) == len(planned)
    assert suite.where or all(run.paper is None for run in suite.runs)


def test_the_oracle_learns_from_the_target(tmp_path):
    suite = suites.load_suite("table1_gta")
    planned = plan(suite, [0], tmp_path, {"source": "gta:A", "target": "cityscapes:B"}, [])
    sources = {training.run.name: training.flags[training.flags.index("--source") + 1] for training in planned}
    assert sources["DACS"] == "gta:A"
    assert sources["oracle, DeepLab-V2"] == "cityscapes:B"


def test_a_suite_is_trained_interrupted_and_resumed(suite_file, tiny, in_process, tmp_path, capsys):
    arguments = ["--suite", suite_file(SUITE), "--seeds", "3", "--output_dir", str(tmp_path / "out"), *tiny]
    in_process.kill = "dacs___mfm"
    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)
    assert stop.value.code == 143
    assert len(in_process) == 3

    compare.main(arguments)
    assert len(in_process) == 4  # what was done stayed done
    assert "--resume_from_checkpoint" in in_process[-1]

    output = capsys.readouterr().out
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    dacs, with_mfm = table["runs"]
    assert dacs["name"] == "DACS"
    assert dacs["paper"] == 52.1
    results = json.loads((tmp_path / "out" / "dacs" / "seed-3" / "results.json").read_text())
    assert dacs["mean_iou"] == [100 * results["mean_iou"]]
    assert with_mfm["gains"] == pytest.approx([with_mfm["mean_iou"][0] - dacs["mean_iou"][0]])
    assert "DACS + MFM" in output
    assert "start" not in (tmp_path / "out" / "table.md").read_text()
    assert Image.open(tmp_path / "out" / "table.png").width == 1200

    compare.main([*arguments, "--dry_run"])
    assert len(in_process) == 4


def test_other_options_do_not_reuse_a_folder(suite_file, tiny, in_process, tmp_path, capsys):
    arguments = ["--suite", suite_file(SUITE), "--seeds", "0", "--output_dir", str(tmp_path / "out"), *tiny]
    compare.main(arguments)
    with pytest.raises(SystemExit):
        compare.main([*arguments, "--learning_rate", "1e-3"])
    assert "was trained with other options" in capsys.readouterr().err


def test_a_dry_run_trains_nothing(suite_file, tiny, in_process, tmp_path, capsys):
    compare.main(["--suite", suite_file(SUITE), "--output_dir", str(tmp_path / "out"), "--dry_run", *tiny])
    output = capsys.readouterr().out
    assert not in_process
    assert output.count("-m mfm_hf train") == 9
    assert "9 trainings with 18 steps are left" in output
    assert not (tmp_path / "out").exists()


def test_a_failed_training_is_told_and_those_that_start_from_it_are_left_out(
    suite_file, tiny, monkeypatch, tmp_path, capsys
):
    commands = []

    def fail(command, check):
        commands.append(command)
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(SystemExit):
        compare.main(["--suite", suite_file(SUITE), "--seeds", "0", "--output_dir", str(tmp_path / "out"), *tiny])
    assert len(commands) == 1
    assert "3 trainings failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": []}, "lists no runs"),
        ({"title": None}, "'title' is missing"),
        ({"steps": 3}, "there is no 'steps' here, only title, runs"),
        ({"runs": [{"name": "a", "start_from": "b"}]}, "starts from 'b', which is no run before it"),
        ({"runs": [{"name": "a", "baseline": "b"}]}, "the baseline of 'a', 'b', is no run"),
        ({"runs": [{"name": "a b"}, {"name": "A+B"}]}, "two runs would lie in one folder"),
        ({"runs": [{"name": "a", "oracle": "perhaps"}]}, "oracle is true or false"),
        ({"runs": [{"flags": {}}]}, "'name' is missing"),
    ],
)
def test_a_bad_suite_is_refused_in_one_line(suite_file, change, message):
    content = {key: value for key, value in (SUITE | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        suites.load_suite(suite_file(content))


def test_an_unknown_suite_is_named(suite_file):
    with pytest.raises(ValueError, match="did you mean table1_gta"):
        suites.load_suite("table1_gt")


def test_bad_flags_are_refused_before_anything_is_trained(suite_file, tiny, in_process, tmp_path, capsys):
    content = SUITE | {"runs": [*SUITE["runs"], {"name": "last", "flags": {"recipe": "hdra"}}]}
    with pytest.raises(SystemExit):
        compare.main(["--suite", suite_file(content), "--output_dir", str(tmp_path / "out"), *tiny])
    assert "hdra" in capsys.readouterr().err
    assert not in_process


def test_the_table_counts_with_the_standard_deviation_of_a_sample():
    assert spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert spread([2.0], sign=True) == "+2.0"
    assert spread([]) == "-"
    line = Line("DACS", (0, 1), (50.0, 52.0), {"road": 90.0, "train": None}, (), None, 52.1, 1.5, 2**30)
    text = as_markdown(suites.Suite(title="a table", where="Table 1", runs=()), [line])
    assert "| DACS | 2 | 51.0 ± 1.4 |  | 52.1 | 1.5 | 1.00 GiB |" in text
    assert "| DACS | 90.0 | - |" in text
