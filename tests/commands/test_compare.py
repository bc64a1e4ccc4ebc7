"""Suites of trainings: read, planned, done, resumed, and laid out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mfm_hf.commands import compare, train
from mfm_hf.commands.comparison import plot, trainings
from mfm_hf.commands.comparison import suite as suites
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder
from mfm_hf.uda.run.preemption import StopRequest

SUITE = {
    "title": "two runs",
    "flags": {"model": "segformer", "max_steps": 2, "mfm_dim": 32, "mfm_grid": 2},
    "runs": [
        {"name": "start", "flags": {"recipe": "source_only"}, "shown": False},
        {"name": "DACS", "flags": {"recipe": "dacs"}, "start_from": "start", "paper": 52.1},
        {"name": "DACS + MFM", "flags": {"recipe": "dacs", "mfm": True}, "start_from": "start", "baseline": "DACS"},
    ],
}


# Two runs of each suite that are really trained, in its order. Together they use every option that a suite varies.
TRAINED = {
    "figure4": ("ratio 0.2", "ratio 0.8"),
    "streets": ("HRDA + MFM", "oracle"),
    "streets_mfm": ("start at 250", "BatchNorm running"),
    "table1_gta": ("MIC", "MIC + MFM"),
    "table1_synthia": ("DAFormer", "DAFormer + MFM"),
    "table2_a": ("width 128", "width 256"),
    "table2_b": ("1 block", "4 blocks"),
    "table2_c": ("grid 8", "grid 16"),
    "table2_d": ("weight 0.1", "weight 10"),
    "table2_e": ("masking only", "masking and rebuilding"),
    "table2_f": ("pixels", "features of the teacher"),
    "v2_paths": ("source and target", "gradient to the encoder"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> list[str]:
    """Options that make a training of any suite a matter of a fraction of a second."""
    folder = tmp_path_factory.mktemp("data")
    for name, split in (("game", "train"), ("real", "train"), ("real", "validation")):
        domain = load_domain(f"streets:{name}:64x64#{split}", "eval")
        write_folder(domain, folder / name / split, limit=4)
    return [
        *("--source", str(folder / "game"), "--target", str(folder / "real"), "--backbone", "tiny"),
        *("--crop_size", "64", "--per_device_train_batch_size", "1", "--max_steps", "2"),
        *("--dataloader_num_workers", "0", "--logging_steps", "1", "--rare_class_min_pixels", "0", "--use_cpu"),
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
    """Trainings run in this process, and are listed. `stop` names one that hears a SIGTERM in its first step."""

    class Trainings(list):
        stop: str | None = None

    done = Trainings()

    def run(command):
        assert command[:4] == [sys.executable, "-m", "mfm_hf", "train"]
        done.append(command[4:])
        with monkeypatch.context() as patch:
            if done.stop is not None and done.stop in command[command.index("--output_dir") + 1]:
                done.stop = None
                patch.setattr(StopRequest, "heard", lambda self: signal.SIGTERM)
            try:
                train.main(command[4:])
            except SystemExit as end:
                return end.code
        return 0

    monkeypatch.setattr(trainings, "run_command", run)
    return done


@pytest.mark.parametrize("name", suites.suite_names())
def test_every_suite_has_its_bounds_and_flags_that_train_accepts(name, tmp_path):
    suite = suites.load_suite(name)
    assert any("source-only" in run.name for run in suite.runs)
    assert any(run.oracle for run in suite.runs)
    planned = trainings.plan(suite, [0, 1], tmp_path, {"source": "streets:game", "target": "streets:real"}, [])
    assert len(planned) == 2 * len(suite.runs)
    assert len(compare._check(planned)) == len(planned)
    assert suite.where or all(run.paper is None for run in suite.runs)


def test_the_oracle_learns_from_the_target(tmp_path):
    suite = suites.load_suite("table1_gta")
    planned = trainings.plan(suite, [0], tmp_path, {"source": "gta:A", "target": "cityscapes:B"}, [])
    sources = {training.run.name: training.flags[training.flags.index("--source") + 1] for training in planned}
    assert sources["DACS"] == "gta:A"
    assert sources["oracle, DeepLab-V2"] == "cityscapes:B"


def test_the_trained_runs_use_every_option_that_a_suite_varies():
    assert set(TRAINED) == set(suites.suite_names())
    loaded = {name: suites.load_suite(name) for name in TRAINED}
    varied = {flag for suite in loaded.values() for run in suite.runs for flag in run.flags}
    trained = {
        flag
        for name, runs in TRAINED.items()
        for run in loaded[name].with_origins(runs)
        for flag in loaded[name][run].flags
    }
    assert varied == trained


@pytest.mark.parametrize("name", TRAINED)
def test_every_suite_is_trained_interrupted_and_resumed(name, tiny, in_process, tmp_path, monkeypatch):
    runs = TRAINED[name]
    suite = suites.load_suite(name)
    arguments = ["--suite", name, "--runs", *runs, "--seeds", "3", "--output_dir", str(tmp_path), *tiny]
    for option, value in {"mfm_dim": "32", "mfm_grid": "2"}.items():
        if not any(option in suite[run].flags for run in runs):
            arguments += [f"--{option}", value]
    monkeypatch.setattr(plot, "draw", lambda *_: None)  # the same for all; another test looks at it
    in_process.stop = suite[runs[1]].folder
    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)
    assert stop.value.code == 143
    number = len(suite.with_origins(runs))
    assert len(in_process) == number

    compare.main(arguments)
    assert len(in_process) == number + 1  # what was done stayed done
    assert in_process[-1][-2:] == ["--resume_from_checkpoint", "latest"]
    table = json.loads((tmp_path / "table.json").read_text())
    seeds = {line["name"]: line["seeds"] for line in table["runs"] if line["seeds"]}
    assert {run: [(result["seed"], result["steps"]) for result in seeds[run]] for run in seeds} == {
        run: [(3, 2)] for run in runs
    }
    assert str(tmp_path.parent) not in (tmp_path / "table.json").read_text()


def test_a_suite_of_ones_own_comes_to_a_table(suite_file, tiny, in_process, tmp_path, capsys):
    output_dir = tmp_path / "out"
    arguments = ["--suite", suite_file(SUITE), "--seeds", "3", "--output_dir", str(output_dir), *tiny]
    compare.main(arguments)
    assert len(in_process) == 3

    output = capsys.readouterr().out
    dacs, with_mfm = json.loads((output_dir / "table.json").read_text())["runs"]
    results = json.loads((output_dir / "dacs" / "seed-3" / "results.json").read_text())
    base = dacs["seeds"][0]
    assert (dacs["name"], dacs["paper"], base["mean_iou"]) == ("DACS", 52.1, 100 * results["mean_iou"])
    assert with_mfm["gain"]["mean"] == pytest.approx(with_mfm["seeds"][0]["mean_iou"] - base["mean_iou"])
    assert with_mfm["start_from"] == "start"
    assert base["arguments"]["source"] == "game"
    assert base["arguments"]["crop_size"] == [64]
    assert "DACS + MFM" in output
    assert "start" not in (output_dir / "table.md").read_text()
    assert Image.open(output_dir / "table.png").width == 1650

    compare.main([*arguments, "--dry_run"])
    assert len(in_process) == 3


@pytest.fixture
def failing(monkeypatch):
    """Trainings that are listed and fail at once, leaving nothing in their folder but its command."""
    commands = []

    def fail(command):
        commands.append(command)
        return 2

    monkeypatch.setattr(trainings, "run_command", fail)
    return commands


def test_other_options_do_not_reuse_a_folder(suite_file, failing, tmp_path, capsys):
    arguments = ["--suite", suite_file(SUITE), "--seeds", "0", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        compare.main([*arguments, "--runs", "DACS"])
    assert len(failing) == 1
    with pytest.raises(SystemExit):
        compare.main([*arguments, "--runs", "DACS + MFM", "--learning_rate", "1e-3"])
    assert len(failing) == 1  # seen before anything is trained
    assert "was trained with other options" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["results.json", "checkpoint-5/model.safetensors", "notes.txt"])
def test_a_folder_of_something_else_is_left_alone(file, suite_file, failing, tmp_path, capsys):
    path = tmp_path / "out/dacs/seed-0" / file
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(SystemExit):
        compare.main(["--suite", suite_file(SUITE), "--seeds", "0", "--output_dir", str(tmp_path / "out")])
    assert not failing
    assert "not of this suite" in capsys.readouterr().err


def test_a_training_that_left_no_checkpoint_begins_again(suite_file, failing, tmp_path):
    arguments = ["--suite", suite_file(SUITE), "--seeds", "0", "--output_dir", str(tmp_path / "out")]
    for _ in range(2):
        with pytest.raises(SystemExit):
            compare.main(arguments)
    assert ["--overwrite_output_dir" in command for command in failing] == [False, True]


def test_chosen_runs_bring_those_that_they_start_from(suite_file, tiny, in_process, tmp_path, capsys):
    arguments = ["--suite", suite_file(SUITE), "--seeds", "0", "--output_dir", str(tmp_path / "out"), "--dry_run"]
    compare.main([*arguments, "--runs", "DACS"])
    output = capsys.readouterr().out
    assert [folder for folder in ("start", "dacs", "dacs___mfm") if f"out/{folder}/seed-0" in output] == [
        "start",
        "dacs",
    ]
    assert "2 trainings with 4 steps are left" in output
    with pytest.raises(SystemExit):
        compare.main([*arguments, "--runs", "DACS+MFM"])
    assert "the suite has no run 'DACS+MFM': did you mean 'DACS + MFM'?" in capsys.readouterr().err


def test_a_dry_run_trains_nothing(suite_file, tiny, in_process, tmp_path, capsys):
    compare.main(["--suite", suite_file(SUITE), "--output_dir", str(tmp_path / "out"), "--dry_run", *tiny])
    output = capsys.readouterr().out
    assert not in_process
    assert output.count("-m mfm_hf train") == 9
    assert "9 trainings with 18 steps are left" in output
    assert not (tmp_path / "out").exists()


def test_a_failed_training_is_told_and_those_that_start_from_it_are_left_out(suite_file, failing, tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--suite", suite_file(SUITE), "--seeds", "0", "--output_dir", str(tmp_path / "out")])
    assert len(failing) == 1
    assert "3 trainings failed" in capsys.readouterr().err


WAITS_FOR_A_SIGNAL = """
import pathlib, signal, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
pathlib.Path(sys.argv[1]).touch()
signal.pause()
"""


def wait_for(path: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_training_and_its_end_is_awaited(number, tmp_path):
    def send() -> None:
        wait_for(tmp_path / "ready")
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    thread = threading.Thread(target=send)
    thread.start()
    assert trainings.run_command([sys.executable, "-c", WAITS_FOR_A_SIGNAL, str(tmp_path / "ready")]) == 128 + number
    thread.join()
    assert signal.getsignal(number) is before


def test_the_command_itself_is_ended_by_a_signal_and_goes_on(suite_file, tiny, tmp_path):
    content = {"title": "one run", "runs": [{"name": "source-only", "flags": {"recipe": "source_only"}}]}
    flags = ["--suite", suite_file(content), "--seeds", "0", "--output_dir", str(tmp_path), *tiny]
    command = [sys.executable, "-m", "mfm_hf", "compare", *flags, "--model", "segformer", "--max_steps", "40"]
    folder = tmp_path / "source_only" / "seed-0"

    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(folder / "log.jsonl")
    finally:
        first.terminate()
        code = first.wait()
    assert code == 143
    [checkpoint] = folder.glob("checkpoint-*")
    assert 0 < int(checkpoint.name.removeprefix("checkpoint-")) < 40
    assert not (folder / "results.json").exists()

    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert json.loads((folder / "results.json").read_text())["steps"] == 40
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 41), 40]  # the last is the evaluation


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
