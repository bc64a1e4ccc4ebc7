from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoConfig, SegformerImageProcessorPil, SegformerModel

from mfm_hf.commands.evaluate import main
from tests.image_processors import needs_image_processor

pytestmark = needs_image_processor


def test_scores_are_printed_and_written(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "results.json"
    main(["--model", str(checkpoint), "--domain", str(folder_domain), "--output", str(output), "--device", "cpu"])
    results = json.loads(output.read_text())
    assert results["num_images"] == 3
    assert results["model"] == str(checkpoint)
    assert results["domain"] == str(folder_domain)
    assert results["split"] == "validation"
    ious = results["per_class_iou"]
    assert list(ious) == ["road", "car", "sky"]
    occurring = [iou for iou in ious.values() if iou is not None]
    assert results["mean_iou"] == pytest.approx(np.mean(occurring))
    assert [path.name for path in output.parent.iterdir()] == ["results.json"]
    printed = capsys.readouterr().out
    assert f"{100 * results['mean_iou']:.2f}" in printed
    assert all(name in printed for name in ious)


def test_limit_and_ignore_index_are_passed_on(checkpoint: Path, folder_domain: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = ["--limit", "2", "--ignore_index", "1", "--batch_size", "1", "--num_workers", "0"]
    main(["--model", str(checkpoint), "--domain", str(folder_domain), "--output", str(output), *options])
    results = json.loads(output.read_text())
    assert results["num_images"] == 2
    assert results["ignore_index"] == 1
    assert results["per_class_accuracy"]["car"] is None


def fails(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """The one line that the command prints for these options before it exits with code 2."""
    with pytest.raises(SystemExit) as stopped:
        main([str(option) for option in options])
    assert stopped.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_bad_input_gets_one_line(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere" in fails(capsys, "--model", checkpoint, "--domain", tmp_path / "nowhere")
    assert "config.json" in fails(capsys, "--model", tmp_path, "--domain", folder_domain)
    assert "cannot load the model 'no/such-model' from the Hub, as there is no such folder" in fails(
        capsys, "--model", "no/such-model", "--domain", folder_domain
    )
    assert "cannot use the device 'toaster'" in fails(
        capsys, "--model", checkpoint, "--domain", folder_domain, "--device", "toaster"
    )
    assert "is a folder" in fails(capsys, "--model", checkpoint, "--domain", folder_domain, "--output", tmp_path)
    not_a_folder = folder_domain / "classes.json" / "results.json"
    assert "is a file, not a folder" in fails(
        capsys, "--model", checkpoint, "--domain", folder_domain, "--output", not_a_folder
    )


def test_bad_image_is_named_and_nothing_is_written(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder_domain / "images" / "b.png").write_bytes(b"no picture")
    output = tmp_path / "results.json"
    assert "b.png" in fails(capsys, "--model", checkpoint, "--domain", folder_domain, "--output", output)
    assert not output.exists()


def test_label_out_of_range_is_named(checkpoint: Path, folder_domain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((32, 64), 23, dtype=np.uint8)).save(folder_domain / "labels" / "b.png")
    assert "label value 23" in fails(capsys, "--model", checkpoint, "--domain", folder_domain)


def test_encoder_alone_is_refused(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SegformerModel(AutoConfig.from_pretrained(checkpoint)).save_pretrained(tmp_path / "encoder")
    line = fails(capsys, "--model", tmp_path / "encoder", "--domain", folder_domain)
    assert "is not a whole segmentation model" in line
    assert "decode_head" in line


def test_model_that_wants_other_pixels_is_refused(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    SegformerImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(other)
    assert "prepares pixels in another way" in fails(capsys, "--model", other, "--domain", folder_domain)
    (other / "preprocessor_config.json").unlink()
    main(["--model", str(other), "--domain", str(folder_domain)])


def test_help_names_the_program_and_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: mfm-hf evaluate ")
    for option in ("model", "domain", "output", "batch_size", "limit", "device", "ignore_index", "num_workers"):
        assert f"--{option}" in text
    assert "(default: 4)" in text
