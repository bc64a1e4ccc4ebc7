from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForSemanticSegmentation

from mfm_hf.commands.demo import CONFIG, RUNS, WARM_UP, main, table
from mfm_hf.data.domains import load_domain
from mfm_hf.data.streets.drawing import STREETS_SPLITS

FLAGS = [
    *("--source", "streets:game:32x64", "--target", "streets:real:32x64", "--crop_size", "32", "64"),
    *("--max_steps", "2", "--warmup_steps", "0", "--mfm_dim", "32", "--dataloader_num_workers", "0", "--use_cpu"),
]


def test_demo_compares_three_runs_from_one_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(STREETS_SPLITS, "train", 8)
    monkeypatch.setitem(STREETS_SPLITS, "validation", 2)
    main(["--output_dir", str(tmp_path), *FLAGS])

    record = json.loads((tmp_path / "results.json").read_text())
    assert list(record["runs"]) == [run.title for run in RUNS]
    for run in RUNS:
        results = record["runs"][run.title]
        assert results == json.loads((tmp_path / run.folder / "results.json").read_text())
        assert (results["seed"], results["steps"]) == (record["warm_up"]["seed"], 2)
        network = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / run.folder)
        assert network.num_parameters() == results["parameters_exported"]
        used = json.loads((tmp_path / run.folder / "training_args.json").read_text())
        assert used["model_name_or_path"] == str(tmp_path / WARM_UP.folder)
    assert [record["runs"][run.title]["mfm"] for run in RUNS] == [False, False, True]

    shown = capsys.readouterr().out
    assert table(record["runs"]) in shown
    assert record["warm_up"]["mean_iou"] is None  # not worth its time

    picture = np.asarray(Image.open(tmp_path / "demo.png").convert("RGB"))
    first = load_domain("streets:real:32x64", "eval")
    image = first.decode(next(iter(first.rows))).image.repeat(2, axis=0).repeat(2, axis=1)
    places = np.argwhere((picture == image[0, 0]).all(axis=-1))
    assert any(np.array_equal(picture[y : y + 64, x : x + 128], image) for y, x in places)


def test_runs_start_from_the_weights_of_the_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a learning rate of 0 they end there, whatever the recipe."""
    monkeypatch.setitem(STREETS_SPLITS, "train", 8)
    monkeypatch.setitem(STREETS_SPLITS, "validation", 1)
    main(["--output_dir", str(tmp_path), *FLAGS, "--max_steps", "1", "--learning_rate", "0"])
    start = load_file(tmp_path / WARM_UP.folder / "model.safetensors")
    for run in RUNS:
        end = load_file(tmp_path / run.folder / "model.safetensors")
        assert end.keys() == start.keys()
        for name, tensor in start.items():
            assert "running_" in name or "num_batches" in name or end[name].equal(tensor), name


def test_table_has_a_column_for_each_run() -> None:
    results = {
        title: {
            "mean_iou": mean,
            "per_class_iou": {"road": mean, "train": None},
            "seconds_per_step": 0.0421,
            "parameters_in_training": 1_234_567,
            "parameters_exported": 1_000_000,
        }
        for title, mean in (("source-only", 0.25), ("DACS", 0.5))
    }
    lines = [line.split("  ") for line in table(results).splitlines()]
    cells = {row[0] or row[1]: [cell.strip() for cell in row if cell.strip()] for row in lines}
    assert [cell.strip() for cell in lines[0] if cell.strip()] == ["source-only", "DACS"]
    assert cells["target mean IoU (%)"][1:] == ["25.0", "50.0"]
    assert cells["road"] == ["road", "25.0", "50.0"]
    assert cells["train"] == ["train", "-", "-"]
    assert cells["ms per training step"][1:] == ["42", "42"]
    assert cells["parameters in training"][1:] == ["1,234,567", "1,234,567"]


def test_an_unknown_option_stops_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--output_dir", str(tmp_path / "demo"), "--max_stepz", "2"])
    assert stopped.value.code == 2
    assert "--max_stepz" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "demo").exists()
    assert CONFIG.exists()
