"""The command alone; what an exported file computes is tested in tests/hub."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation, SegformerForSemanticSegmentation

from mfm_hf.commands.export import main
from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from tests.image_processors import needs_image_processor
from tests.models.segmenter_tester import deeplabv2_config

pytestmark = needs_image_processor


def test_checkpoint_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "run", tmp_path / "new/model.pt2"
    DeepLabV2ForSemanticSegmentation(deeplabv2_config()).save_pretrained(folder)
    save_image_processor(folder, (64, 32))
    capsys.readouterr()
    size = ["--height", "72", "--width", "96"]
    options = ["--format", "torch_export", "--result", "logits", "--fixed_size"]
    main(["--model", str(folder), "--output", str(file), *options, *size])
    printed = capsys.readouterr()
    first, last = printed.out.splitlines()
    assert re.fullmatch(r"72 x 96 pixels: at most \d\.\de[+-]\d\d from the checkpoint's logits", first)
    assert last == f"{folder} -> {file}"
    assert printed.err == ""
    extra = {"metadata.json": ""}
    run = torch.export.load(file, extra_files=extra).module()
    images = torch.randn(1, 3, 72, 96)
    with torch.no_grad():
        expected = AutoModelForSemanticSegmentation.from_pretrained(folder)(images).logits
    torch.testing.assert_close(run(images), expected, rtol=0, atol=1e-3)
    assert json.loads(extra["metadata.json"])["resize"] == {"shortest_edge": 32, "longest_edge": 64}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "model.onnx"], "model.onnx is no name for torch_export: give one that ends in .pt2"),
        (["--output", "x.txt/model.pt2"], "x.txt is a file, not a folder"),
        (["--model", "nowhere"], "cannot load the model 'nowhere'"),
        (["--model", "bare"], "bare has no image processor"),
        (["--height", "40", "--width", "80"], "from 64 x 64 pixels on, not 40 x 80"),
        (["--height", "1", "--width", "1", "--fixed_size"], "cannot see images of 1 x 1 pixels"),
        (["--height", "64"], "--height and --width go together"),
        (["--fixed_size"], "--fixed_size needs --height and --width"),
    ],
)
def test_bad_input_gets_one_line(
    options: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").touch()
    SegformerForSemanticSegmentation.from_pretrained(checkpoint).save_pretrained("bare")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(checkpoint), "--format", "torch_export", "--output", "model.pt2", *options])
    assert stopped.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert message in line
    assert not list(Path().glob("*model*"))
