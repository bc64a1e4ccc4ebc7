import json
import shutil
from pathlib import Path

import pytest

from mfm_hf.commands.push import main
from tests.hub_server import LoopbackHub


def test_push_prints_the_address(
    checkpoint: Path, loopback_hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(checkpoint), "lab/streets", "--private"])
    assert capsys.readouterr().out == f"{loopback_hub.url}/lab/streets\n"
    repo = loopback_hub.repos["lab/streets"]
    assert repo.private
    assert {"config.json", "model.safetensors", "README.md", "preprocessor_config.json"} < repo.files.keys()


def test_baseline_is_compared_with(checkpoint: Path, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "adapted")
    results = {"mean_iou": 0.5, "per_class_iou": {"road": 0.5}, "eval": "city (validation)", "steps": 3, "seed": 1}
    (folder / "results.json").write_text(json.dumps(results))
    file = tmp_path / "baseline.json"
    file.write_text(json.dumps({**results, "recipe": "source_only", "mean_iou": 0.25}))
    main([str(folder), "lab/streets", "--baseline_results", str(file)])
    assert "| **mean** | **50.00** | 25.00 |" in loopback_hub.repos["lab/streets"].files["README.md"].decode()


def test_errors_are_one_line(
    checkpoint: Path, loopback_hub: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback_hub.fail("repos/create", 403)
    for folder, message in ((checkpoint, "your token may not write there"), (tmp_path, "holds no config.json")):
        with pytest.raises(SystemExit) as exit_info:
            main([str(folder), "lab/streets"])
        assert exit_info.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert message in line
