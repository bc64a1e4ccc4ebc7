import json
from pathlib import Path

import pytest

from mfm_hf.benchmarking import training
from mfm_hf.benchmarking.candidate import measure_candidate
from mfm_hf.commands.benchmark import main

TINY = ["--backbone", "tiny", "--use_cpu"]
STEP = ["--crop_size", "32", "--steps", "1", "--no-other_encode", "--no-data_wait"]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "measure_in_own_process", measure_candidate)


def test_train_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--recipe", "dacs", *TINY, *STEP, "--json", str(tmp_path / "figures" / "train.json")])
    figures = json.loads((tmp_path / "figures" / "train.json").read_text())
    assert figures["speedup_over_plain"] > 0
    assert f"{figures['speedup_over_plain']:.2f} times as fast as the plain step" in capsys.readouterr().out


def test_losses(capsys: pytest.CaptureFixture[str]) -> None:
    main(["losses", "--recipe", "dacs", *TINY, "--crop_size", "32", "--steps", "2"])
    assert "| bf16 to float32 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--without", "slow_disk"], "there is no handicap 'slow_disk'"),
        (["--backbone", "resnet-50"], "no encoder of segformer is called 'resnet-50'"),
        (["--json", "."], ". is a folder"),
    ],
)
def test_bad_input_is_told_in_a_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--recipe", "dacs", *TINY, *STEP, *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
