import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from mfm_hf.commands.convert import main
from mfm_hf.data.classes import CITYSCAPES
from tests.reference_weights import reference_weights

HEADS = "num_attention_heads=1,2,3,4"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A DAFormer of lhoyer/MIC."""
    path = tmp_path / "daformer.pth"
    torch.save({"state_dict": reference_weights("net_mit_daformer")}, path)
    return path


def error_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    assert exit_info.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_there_and_back(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, back = tmp_path / "out", tmp_path / "back.pth"
    main([str(checkpoint), str(folder), "--set", HEADS])
    assert capsys.readouterr().out.startswith("DaformerForSemanticSegmentation with an encoder")
    assert AutoConfig.from_pretrained(folder).id2label == CITYSCAPES.id2label
    main([str(folder), str(back), "--to", "reference"])
    original, returned = (torch.load(path, weights_only=True)["state_dict"] for path in (checkpoint, back))
    assert original.keys() == returned.keys()
    assert all(torch.equal(original[name], returned[name]) for name in original)


@pytest.mark.parametrize("as_object", [False, True])
def test_labels_from_a_file(as_object: bool, checkpoint: Path, tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(19)]
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({str(index): name for index, name in enumerate(names)} if as_object else names))
    main([str(checkpoint), str(tmp_path / "out"), "--set", HEADS, "--labels", str(labels)])
    assert AutoConfig.from_pretrained(tmp_path / "out").id2label == dict(enumerate(names))


def test_bad_input_gives_one_line_and_no_folder(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, broken, labels = tmp_path / "out", tmp_path / "broken.pth", tmp_path / "labels.json"
    broken.write_bytes(checkpoint.read_bytes()[:20_000])
    labels.write_text('{"0": "road", "2": "car"}')
    start, heads = [str(checkpoint), str(folder)], ["--set", HEADS]
    assert "add it, as in --set num_attention_heads=" in error_of(start, capsys)
    assert "not of the form NAME=VALUE" in error_of([*start, "--set", "num_attention_heads"], capsys)
    assert "must hold class names" in error_of([*start, *heads, "--labels", str(labels)], capsys)
    assert "holds no teacher" in error_of([*start, *heads, "--weights", "teacher"], capsys)
    assert "truncated" in error_of([str(broken), str(folder)], capsys)
    assert "there is no file" in error_of([str(tmp_path / "none.pth"), str(folder)], capsys)
    assert "no meaning with --to reference" in error_of([*start, *heads, "--to", "reference"], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.pth", "daformer.pth", "labels.json"]
