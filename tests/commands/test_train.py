from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from mfm_hf.commands.train import main
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder
from mfm_hf.data.streets.drawing import STREETS_SPLITS
from tests.hub_server import USER, LoopbackHub

SIZE = "32x64"
FLAGS = [
    *("--source", f"streets:game:{SIZE}", "--target", f"streets:real:{SIZE}", "--backbone", "tiny"),
    *("--crop_size", "32", "64", "--max_steps", "2", "--warmup_steps", "0", "--learning_rate", "1e-3"),
    *("--mfm_dim", "32", "--mfm_grid", "4", "--pseudo_label_threshold", "0.05"),
    *("--eval_steps", "0", "--dataloader_num_workers", "0", "--use_cpu"),
]
INFERENCE_FILES = {"config.json", "model.safetensors", "preprocessor_config.json"}
METHODS = {
    "source_only": ("--recipe", "source_only"),
    "dacs": ("--recipe", "dacs"),
    "dacs_mfm": ("--recipe", "dacs", "--mfm"),
}


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STREETS_SPLITS, "train", 6)
    monkeypatch.setitem(STREETS_SPLITS, "validation", 2)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """The streets pair as folders: a labelled source, a target with images alone, and labels to evaluate on."""
    for folder, domain, role in (
        ("game", "game", "source"),
        ("real/train", "real", "target"),
        ("real/validation", "real", "eval"),
    ):
        write_folder(load_domain(f"streets:{domain}:{SIZE}", role), tmp_path / "pair" / folder)
    return tmp_path / "pair"


def train(output: Path, *flags: object) -> dict[str, Any]:
    return main([*FLAGS, "--output_dir", str(output), *map(str, flags)])


def from_folders(pair: Path) -> tuple[str, ...]:
    return ("--source", str(pair / "game"), "--target", str(pair / "real"))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def error_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that returns the one line with which a training ends that must write nothing."""

    def run(*flags: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            train(tmp_path / "refused", *flags)
        assert stopped.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if "error: " in line] == lines[-1:]
        assert names_in(tmp_path / "refused") == set()
        return lines[-1]

    return run


def test_methods_train_and_export_the_same_network(tmp_path: Path) -> None:
    exported = {}
    for method, flags in METHODS.items():
        results = train(tmp_path / method, *flags)
        assert json.loads((tmp_path / method / "results.json").read_text()) == results
        assert (results["recipe"], results["mfm"]) == (flags[1], "--mfm" in flags)
        assert (results["steps"], results["seed"], results["num_images"]) == (2, 0, 2)
        assert results["seconds_per_step"] > 0
        assert (results["parameters_in_training"] > results["parameters_exported"]) == ("--mfm" in flags)
        network, report = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / method, output_loading_info=True)
        assert not any(report.values())
        assert type(network).__name__ == results["model"] == "SegformerForSemanticSegmentation"
        assert network.num_parameters() == results["parameters_exported"]
        assert AutoImageProcessor.from_pretrained(tmp_path / method).do_resize is False
        exported[method] = load_file(tmp_path / method / "model.safetensors")
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in exported.values()]
    assert shapes[0] == shapes[1] == shapes[2]
    bias = next(name for name in shapes[0] if name.endswith("classifier.bias"))
    assert len({tensors[bias].sum().item() for tensors in exported.values()}) == 3  # each learned something else


def test_hrda_starts_from_a_whole_segformer(tmp_path: Path) -> None:
    """The network that the recipe asks for was left aside, and SegFormer trained in its place."""
    train(tmp_path / "segformer", "--recipe", "source_only")
    start = ("--recipe", "hrda", "--model_name_or_path", tmp_path / "segformer")
    options = ["--hrda_base", "segformer", "--learning_rate", "1e-12", "--rare_class_min_pixels", "0"]
    options += ["--source", "streets:game:64x128", "--target", "streets:real:64x128", "--crop_size", "64", "128"]
    train(tmp_path / "hrda", *start, *options)
    assert json.loads((tmp_path / "hrda/config.json").read_text())["model_type"] == "hrda"
    weights, base = (load_file(tmp_path / name / "model.safetensors") for name in ("hrda", "segformer"))
    name = "decode_head.classifier.weight"
    torch.testing.assert_close(weights[f"base.{name}"], base[name])


def test_pair_as_folders_trains_to_the_same_numbers(pair: Path, tmp_path: Path) -> None:
    flags = (*METHODS["dacs_mfm"], "--max_steps", 5, "--logging_steps", 1)  # more steps than an epoch has batches
    results = [train(tmp_path / "a", *flags), train(tmp_path / "b", *flags, *from_folders(pair))]
    assert results[0]["per_class_iou"] == results[1]["per_class_iou"]
    losses = []
    for run in ("a", "b"):
        lines = [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        losses.append([{key: line[key] for key in line if key.startswith("loss/")} for line in lines])
    assert losses[0] == losses[1]
    assert len(losses[0][0]) == 3
    one, other = (load_file(tmp_path / run / "model.safetensors") for run in ("a", "b"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["latest", "checkpoint-2"])
def test_resumed_run_ends_where_the_uninterrupted_does(name: str, tmp_path: Path) -> None:
    flags = (*METHODS["dacs_mfm"], "--max_steps", 4, "--save_steps", 2)
    train(tmp_path / "whole", *flags)
    (tmp_path / "half").mkdir()
    shutil.copytree(tmp_path / "whole/checkpoint-2", tmp_path / "half/checkpoint-2")
    folder = name if name == "latest" else tmp_path / "half" / name
    results = train(tmp_path / "half", *flags, "--resume_from_checkpoint", folder)
    assert results["steps"] == 4
    files = [tmp_path / run / "model.safetensors" for run in ("whole", "half")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_options_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "recipe: source_only\nmax_steps: 4\nlearning_rate: 6e-5\ncrop_size: [32, 32]\nmixed_precision: no\n"
    )
    flags = ["--config", str(config), *FLAGS[: FLAGS.index("--crop_size")], "--max_steps", "1", "--use_cpu"]
    main([*flags, "--output_dir", str(tmp_path / "out"), "--dataloader_num_workers", "0"])
    used = json.loads((tmp_path / "out/training_args.json").read_text())
    chosen = {"recipe": "source_only", "max_steps": 1, "learning_rate": 6e-5, "crop_size": [32, 32]}
    assert {name: used[name] for name in chosen} == chosen
    assert used["mixed_precision"] == "no"


def test_target_without_labels_is_not_measured(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(pair / "real/validation")
    results = train(tmp_path / "out", *from_folders(pair))
    assert results["mean_iou"] is None
    assert "no evaluation" in capsys.readouterr().err
    assert names_in(tmp_path / "out") > INFERENCE_FILES


# Bad input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--source", "nowhere"), "'nowhere' is neither an existing folder nor a built-in domain"),
        (("--target", "nowhere/else"), "'nowhere/else' is neither an existing folder"),
        (("--eval", "nowhere"), "'nowhere' is neither an existing folder"),
        (("--target", f"streets:real:{SIZE}#test"), "has no split 'test': choose one of train, validation"),
        (("--crop_size", "32", "65"), "crop 32x65 is larger than the images of streets:game:32x64 (32x64)"),
        (("--crop_size", "1", "2", "3"), "--crop_size takes one or two positive numbers"),
        (("--mfm_ratio", "1.5"), "--mfm_ratio is a share of the tokens, from 0 to 1, not 1.5"),
        (("--mfm_ratio", "-0.1"), "from 0 to 1, not -0.1"),
        (("--max_steps", "0"), "--max_steps must be at least 1"),
        (("--per_device_train_batch_size", "0"), "--per_device_train_batch_size must be at least 1"),
        (("--recipe", "source_only", "--mfm"), "--recipe source_only makes no pseudo-labels for --mfm: add --mfm_view"),
        (("--recipe", "dax"), "--recipe: invalid choice: 'dax'"),
        (("--max_step", "3"), "there is no option --max_step"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("--backbone", "mit-b9"), "--backbone 'mit-b9'"),
        (("--backbone", "mit-b0"), "--no_pretrained_backbone"),  # its weights are on the Hub, and there is no network
        (("--model", "deeplabv2", "--backbone", "mit-b0", "--no_pretrained_backbone"), "choose one of resnet-50"),
        (("--model_name_or_path", "nowhere"), "--model_name_or_path 'nowhere'"),
        (("--resume_from_checkpoint", "latest"), "start without --resume_from_checkpoint"),
        (("--resume_from_checkpoint", "nowhere"), "no checkpoint folder nowhere: give one that --save_steps wrote"),
        (("--report_to", "blackboard"), "blackboard"),
    ],
)
def test_bad_options(flags: tuple[str, ...], message: str, error_of: Callable[..., str]) -> None:
    assert message in error_of(*flags)


def remove_a_label(pair: Path) -> None:
    (pair / "game/labels/game_train_00003.png").unlink()


def remove_all_labels(pair: Path) -> None:
    shutil.rmtree(pair / "game/labels")


def cut_a_label(pair: Path) -> None:
    file = pair / "game/labels/game_train_00003.png"
    Image.open(file).crop((0, 0, 60, 32)).save(file)


def use_an_unknown_class(pair: Path) -> None:
    Image.fromarray(np.full((32, 64), 23, dtype=np.uint8)).save(pair / "game/labels/game_train_00003.png")


def color_a_label(pair: Path) -> None:
    Image.new("RGB", (64, 32)).save(pair / "game/labels/game_train_00003.png")


def remove_the_target(pair: Path) -> None:
    shutil.rmtree(pair / "real/train/images")
    (pair / "real/train/images").mkdir()


def remove_the_folder_of_the_target(pair: Path) -> None:
    shutil.rmtree(pair / "real/train")


def rename_the_classes(pair: Path) -> None:
    (pair / "game/classes.json").write_text(json.dumps({f"class {index}": index for index in range(19)}))


def shrink_the_target(pair: Path) -> None:
    for file in (pair / "real/train/images").iterdir():
        Image.open(file).crop((0, 0, 48, 32)).save(file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_a_label, "do not match by name: 1 without a label (game_train_00003). Give both the same names"),
        (remove_all_labels, "has images/ but no labels/: add"),
        (cut_a_label, "game_train_00003.png is 32x60, but its image"),
        (use_an_unknown_class, "label value 23 in"),
        (color_a_label, "game_train_00003.png is a colour picture (mode RGB)"),
        (remove_the_target, "real/train/images holds no files of the kinds"),
        (remove_the_folder_of_the_target, "has no split 'train', only validation"),
        (rename_the_classes, "real have different classes (only "),
        (shrink_the_target, "crop 32x64 is larger than the images of"),
    ],
)
def test_bad_folders(spoil: Callable[[Path], None], message: str, pair: Path, error_of: Callable[..., str]) -> None:
    spoil(pair)
    assert message in error_of(*from_folders(pair))


def test_one_label_map_serves_all_folders(pair: Path, tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(19)]
    label_map = {name: {"ids": [18 - index]} for index, name in enumerate(names)} | {"ignore": "others"}
    (tmp_path / "map.json").write_text(json.dumps(label_map))
    results = train(tmp_path / "out", *from_folders(pair), "--max_steps", 1, "--label_map", tmp_path / "map.json")
    assert list(results["per_class_iou"]) == names[::-1]  # ids from 0 to 18 keep their order


def test_another_run_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    train(output, "--max_steps", 1)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train(output, "--seed", 1)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {output} holds another run: choose another --output_dir")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert train(output, "--seed", 1, "--max_steps", 1, "--overwrite_output_dir")["seed"] == 1


def test_corrupt_source_image_ends_the_run(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pair / "game/images/game_train_00003.png"
    file.write_bytes(file.read_bytes()[:200])
    flags = (*from_folders(pair), "--max_steps", 4)
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "out", *flags)
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: 1 of 6 samples in {pair / 'game'} are bad (--max_bad_samples is 0)")
    assert f"cannot read {file}" in last
    assert not names_in(tmp_path / "out") & {*INFERENCE_FILES, "results.json"}
    train(tmp_path / "skipped", *flags, "--max_bad_samples", 1)
    assert names_in(tmp_path / "skipped") > INFERENCE_FILES


def test_corrupt_target_image_is_skipped(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = pair / "real/train/images/real_train_00002.png"
    file.write_bytes(b"no picture")
    flags = (*from_folders(pair), "--max_steps", 4)
    with caplog.at_level(logging.WARNING, logger="mfm_hf"):
        assert train(tmp_path / "out", *flags)["steps"] == 4
    (warning,) = [record.message for record in caplog.records if record.name == "mfm_hf.data.loading"]
    assert warning.startswith(f"skipped a bad sample of {pair / 'real'}: cannot read {file}")
    with pytest.raises(SystemExit):
        train(tmp_path / "strict", *flags, "--max_bad_samples", 0)
    assert f"cannot read {file}" in capsys.readouterr().err.splitlines()[-1]


# The Hub


def test_push_uploads_the_inference_files_only(tmp_path: Path, loopback_hub: LoopbackHub) -> None:
    train(tmp_path / "adapted", "--mfm", "--save_steps", 1, "--push_to_hub")
    repo = loopback_hub.repos[f"{USER}/adapted"]
    assert repo.files.keys() == {*INFERENCE_FILES, "results.json", "README.md", ".gitattributes"}
    assert repo.files["model.safetensors"] == (tmp_path / "adapted/model.safetensors").read_bytes()
    network = AutoModelForSemanticSegmentation.from_pretrained(f"{USER}/adapted")
    assert not any("rebuilder" in name for name, _ in network.named_parameters())


def test_a_hub_that_fails_loses_nothing(
    tmp_path: Path, loopback_hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback_hub.fail("/commit/", 403)
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "out", "--push_to_hub", "--hub_model_id", "lab/streets")
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: cannot publish {tmp_path / 'out'} as lab/streets: your token may not write there")
    assert json.loads((tmp_path / "out/results.json").read_text())["steps"] == 2
    _, report = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
