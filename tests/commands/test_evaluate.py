from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, PreTrainedModel, SegformerImageProcessorPil, SegformerModel

from mfm_hf.commands.evaluate import main
from mfm_hf.data.benchmarks.layouts import LAYOUTS
from mfm_hf.evaluation import acceleration
from mfm_hf.hub.image_processor import save_image_processor
from tests.image_processors import needs_image_processor
from tests.tiny_models import tiny_model

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


def measure(*options: object, output: Path) -> dict:
    """Run the command and return its results."""
    main([*map(str, options), "--output", str(output)])
    return json.loads(output.read_text())


def test_a_checkpoint_is_measured_at_the_size_that_it_was_trained_at(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = shutil.copytree(checkpoint, tmp_path / "trained")
    save_image_processor(trained, (128, 64))
    inputs = ("--model", trained, "--domain", folder_domain)
    as_trained = measure(*inputs, output=tmp_path / "trained.json")
    assert (as_trained["image_size"], as_trained["image_size_chosen_by"]) == ([128, 64], "checkpoint")
    assert "images fitted into 128 x 64 (the size of the checkpoint's image processor)" in capsys.readouterr().out
    same = measure(*inputs, "--image_size", 64, 128, output=tmp_path / "same.json")
    assert same["mean_iou"] == as_trained["mean_iou"]
    native = measure(*inputs, "--image_size", "native", output=tmp_path / "native.json")
    untrained = measure("--model", checkpoint, "--domain", folder_domain, output=tmp_path / "untrained.json")
    assert (native["image_size"], untrained["image_size_chosen_by"]) == (None, "nobody")
    assert native["per_class_iou"] == untrained["per_class_iou"] != as_trained["per_class_iou"]


def test_windows_slide_over_the_images(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ("--model", checkpoint, "--domain", folder_domain, "--window_size", 32, 32)
    slid = measure(*inputs, output=tmp_path / "slid.json")
    assert (slid["window_size"], slid["window_stride"]) == ([32, 32], [16, 16])
    assert "seen in windows of 32x32 every 16x16; labels at their own size" in capsys.readouterr().out
    batched = measure(*inputs, "--window_batch_size", 3, output=tmp_path / "batched.json")
    assert batched["per_class_iou"] == pytest.approx(slid["per_class_iou"])
    whole = measure(*inputs[:-3], "--window_size", "whole", output=tmp_path / "whole.json")
    assert whole["window_size"] is None
    assert whole["per_class_iou"] != slid["per_class_iou"]


def test_windows_precision_and_compiling_are_recorded(
    checkpoint: Path,
    folder_domain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compiled: list[PreTrainedModel] = []
    monkeypatch.setattr(acceleration, "check_compiler", lambda device: None)
    monkeypatch.setattr(acceleration, "compiled", lambda model: nullcontext(compiled.append(model)))
    inputs = ("--model", checkpoint, "--domain", folder_domain, "--limit", 1, "--num_workers", 0)
    plain = measure(*inputs, "--window_size", 32, 32, output=tmp_path / "plain.json")
    assert (plain["window_blending"], plain["precision"], plain["compile"]) == ("uniform", "float32", False)
    assert not compiled
    options = ("--window_size", 32, 32, "--window_blending", "gaussian", "--precision", "bfloat16", "--compile")
    fast = measure(*inputs, *options, output=tmp_path / "fast.json")
    assert (fast["window_blending"], fast["precision"], fast["compile"]) == ("gaussian", "bfloat16", True)
    assert [model.dtype for model in compiled] == [torch.bfloat16]
    assert fast["per_class_iou"] != plain["per_class_iou"]
    assert "blended by Gaussian weights, in bfloat16, compiled; labels" in capsys.readouterr().out


def test_options_that_do_not_go_together_are_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs = ("--model", "nowhere", "--domain", "nowhere", "--window_size", "whole")
    assert "--window_blending is how windows are merged" in fails(capsys, *inputs, "--window_blending", "gaussian")
    assert "--window_stride is the distance of windows" in fails(capsys, *inputs, "--window_stride", 8, 8)
    assert "float16 is slow on a processor" in fails(capsys, *inputs, "--precision", "float16", "--device", "cpu")


def test_the_mean_can_be_taken_over_some_classes(checkpoint: Path, folder_domain: Path, tmp_path: Path) -> None:
    inputs = ("--model", checkpoint, "--domain", folder_domain, "--eval_classes", "car,road")
    results = measure(*inputs, output=tmp_path / "results.json")
    assert results["eval_classes"] == ["road", "car"]
    assert results["mean_iou"] == pytest.approx(np.mean([results["per_class_iou"][name] for name in ("road", "car")]))


@pytest.fixture
def acdc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ACDC with one test image for each condition, and a model of its classes."""
    rng, layout = np.random.default_rng(0), LAYOUTS["acdc"]
    for index, condition in enumerate(layout.conditions):
        folder = tmp_path / f"acdc/rgb_anon/{condition}/test/GOPR000{index}"
        folder.mkdir(parents=True)
        image = Image.fromarray(rng.integers(0, 256, (54, 96, 3), dtype=np.uint8))
        image.save(folder / f"GOPR000{index}_frame_000001_rgb_anon.png")
    test = replace(layout.splits["test"], num_examples=dict.fromkeys(layout.conditions, 1))
    monkeypatch.setitem(LAYOUTS, "acdc", replace(layout, splits={**layout.splits, "test": test}))
    tiny_model("segformer").save_pretrained(tmp_path / "model")
    save_image_processor(tmp_path / "model", (64, 36))
    return tmp_path


def test_a_submission_is_written(acdc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = acdc / "submission.zip"
    main(["--model", str(acdc / "model"), "--domain", f"acdc:{acdc / 'acdc'}#test", "--submission", str(file)])
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == [f"labelTrainIds/GOPR000{index}_frame_000001_rgb_anon.png" for index in range(4)]
    printed = capsys.readouterr().out
    assert "4 images of acdc:" in printed
    assert "images fitted into 64 x 36 (the size of the checkpoint's image processor), seen whole" in printed


def test_a_submission_of_some_images_is_refused(acdc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((acdc / "acdc").rglob("*.png")).unlink()
    file = acdc / "submission.zip"
    inputs = ("--model", acdc / "model", "--domain", f"acdc:{acdc / 'acdc'}#test", "--submission", file)
    assert "holds 3 images, but a submission needs all 4" in fails(capsys, *inputs)
    assert not file.exists()


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
    inputs = ("--model", checkpoint, "--domain", folder_domain)
    for options, message in (
        (("--image_size", "1024"), "--image_size takes two numbers of pixels, or: native; not 1024"),
        (("--window_size", "64", "big"), "--window_size takes two numbers of pixels, or: whole; not 64 big"),
        (("--window_stride", "64", "64"), "give their --window_size, too"),
        (("--window_size", "32", "32", "--window_stride", "64", "64"), "leaves gaps between windows of (32, 32)"),
        (("--eval_classes", "synthia16"), "there is no class 'sidewalk' here; choose of road, car, sky"),
        (("--submission", tmp_path / "new.zip"), "there is no submission for"),
        (("--submission", tmp_path / "new.zip", "--limit", 2), "takes all test images and gives no scores"),
    ):
        assert message in fails(capsys, *inputs, *options)
    assert not (tmp_path / "new.zip").exists()
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
    for option in ("submission", "image_size", "window_size", "window_stride", "window_batch_size", "eval_classes"):
        assert f"--{option}" in text
    for option in ("window_blending", "precision", "compile"):
        assert f"--{option}" in text
    assert "(default: 4)" in text
