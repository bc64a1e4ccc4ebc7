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
