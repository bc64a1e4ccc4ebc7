"""Exported files against the networks themselves, run by ONNX Runtime and by `torch.export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, SegformerForSemanticSegmentation, SegformerImageProcessorPil, UperNetConfig

from mfm_hf.hub import export
from mfm_hf.hub.deployed import DeployedSegmenter, Normalization, slide
from mfm_hf.hub.export import (
    METADATA_FILE,
    TOLERANCE,
    compare,
    export_checkpoint,
    load_exported,
    metadata,
    trace,
    write_onnx,
    write_torch_export,
)
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation
from mfm_hf.models.sliding_window import SlidingWindow
from tests.image_processors import needs_image_processor
from tests.models.segmenter_tester import daformer_config, deeplabv2_config, segformer_config

onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = needs_image_processor


def hrda() -> HrdaForSemanticSegmentation:
    """A network of windows of 64 x 64, 32 apart, each with nine detail windows."""
    return HrdaForSemanticSegmentation(HrdaConfig(deeplabv2_config(), detail_crop_size=(32, 32)))


NETWORKS: dict[str, Callable[[], PreTrainedModel]] = {
    "segformer": lambda: SegformerForSemanticSegmentation(segformer_config()),
    "daformer": lambda: DaformerForSemanticSegmentation(daformer_config()),
    "deeplabv2": lambda: DeepLabV2ForSemanticSegmentation(deeplabv2_config()),
    "hrda": hrda,
}


def network(name: str) -> PreTrainedModel:
    """A network in eval mode whose logits are not all nearly 0, as they are at the start."""
    model = NETWORKS[name]().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return model


def processor() -> SegformerImageProcessorPil:
    return SegformerImageProcessorPil(do_resize=False, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.3])


@pytest.mark.parametrize("name", NETWORKS)
def test_both_formats_agree_with_the_network_at_any_size(name: str, tmp_path: Path) -> None:
    model = network(name)
    window = model.config.sliding_window if name == "hrda" else None
    segmenter = DeployedSegmenter(model, "logits", window=window)
    program, facts = trace(segmenter, None), metadata(model, processor(), segmenter, None)
    files = {"onnx": tmp_path / "model.onnx", "torch_export": tmp_path / "model.pt2"}
    write_onnx(program, segmenter, files["onnx"], facts)
    write_torch_export(program, segmenter, files["torch_export"], facts)
    images = torch.randn(3, 3, 72, 90)
    with torch.no_grad():
        spread = model(images).logits.std().item()
    assert spread > 1
    tolerance = min(1e-4 * spread, TOLERANCE)
    for export_format, file in files.items():
        run = load_exported(file, export_format)
        for size in ((64, 64), (64, 128), (101, 75), (97, 160)):
            assert compare(segmenter, run, size) < tolerance, (export_format, size)
        one_by_one = torch.cat([run(image) for image in images.split(1)])
        torch.testing.assert_close(run(images), one_by_one, rtol=0, atol=tolerance)

    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    found = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    extra = {METADATA_FILE: ""}
    torch.export.load(files["torch_export"], extra_files=extra)
    assert found == json.loads(extra[METADATA_FILE]) == json.loads(json.dumps(facts))
    assert (found["architecture"], found["result"]) == (type(model).__name__, "logits")
    assert (found["image_mean"], found["ignore_index"], found["resize"]) == ([0.5, 0.4, 0.3], 255, None)
    assert len(found["id2label"]) == 5
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_inputs()[0].name == "pixel_values"
    if name == "hrda":
        with pytest.raises(Exception, match="invalid index found"):
            load_exported(files["onnx"], "onnx")(torch.randn(1, 3, 48, 80))


@pytest.mark.parametrize("export_format", ["onnx", "torch_export"])
def test_classes_of_plain_images_are_those_of_the_image_processor(export_format: str, tmp_path: Path) -> None:
    file = tmp_path / f"new/model{export.SUFFIXES[export_format]}"
    model = network("deeplabv2")
    comparisons = export_checkpoint(model, processor(), file, export_format, size=(96, 80), include_preprocessing=True)
    assert [comparison.size for comparison in comparisons] == [(96, 80), (64, 72), (109, 86)]
    assert all(comparison.difference < TOLERANCE for comparison in comparisons)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    found = load_exported(file, export_format)(torch.from_numpy(image)[None])
    with torch.no_grad():
        outputs = model(**processor()(images=[image], return_tensors="pt"))
    [expected] = processor().post_process_semantic_segmentation(outputs, target_sizes=[(70, 90)])
    assert found.dtype == torch.uint8
    assert (found[0] == expected).float().mean() > 0.999  # but for ties


def test_fixed_size_takes_one_size_alone_and_needs_no_windows(tmp_path: Path) -> None:
    model = network("hrda")
    model.config.window_size = model.config.window_stride = None
    file = tmp_path / "model.pt2"
    with pytest.raises(ValueError, match=r"has no window_size .* needs --fixed_size"):
        export_checkpoint(model, processor(), file, "torch_export")
    [comparison] = export_checkpoint(model, processor(), file, "torch_export", size=(64, 72), fixed_size=True)
    assert comparison.size == (64, 72)
    run = load_exported(file, "torch_export")
    assert run(torch.randn(1, 3, 64, 72)).shape == (1, 64, 72)
    with pytest.raises(AssertionError, match="Guard failed"):
        run(torch.randn(1, 3, 72, 72))


def test_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.pt2"
    file.write_text("an older one")
    model = network("deeplabv2")
    load = export.load_exported

    def load_another(file: Path, export_format: export.Format) -> Callable[[torch.Tensor], torch.Tensor]:
        run = load(file, export_format)
        return lambda images: run(images) + 2 * TOLERANCE

    monkeypatch.setattr(export, "load_exported", load_another)
    with pytest.raises(ValueError, match=r"differs from the checkpoint by 0.002 at 64 x 64 pixels, more than 0.001"):
        export_checkpoint(model, processor(), file, "torch_export", "logits", (64, 64), fixed_size=True)
    assert file.read_text() == "an older one"
    assert list(tmp_path.iterdir()) == [file]


def test_wrong_classes_and_nan_are_differences() -> None:
    model = network("deeplabv2")
    segmenter = DeployedSegmenter(model)
    right = segmenter(segmenter.random_input(1, (64, 64)))
    assert compare(segmenter, lambda images: right, (64, 64)) == 0
    assert compare(segmenter, lambda images: (right + 1) % 5, (64, 64)) > TOLERANCE
    assert compare(segmenter, lambda images: right[:, 1:], (64, 64)) == float("inf")
    segmenter.result = "logits"
    with torch.no_grad():
        logits = model(segmenter.random_input(1, (64, 64))).logits
    assert not compare(segmenter, lambda images: logits * torch.nan, (64, 64)) <= TOLERANCE


@pytest.mark.parametrize(
    ("size", "stride"), [((8, 8), (4, 4)), ((8, 12), (8, 5)), ((9, 8), (2, 3)), ((20, 30), (10, 15))]
)
def test_windows_without_loops_are_the_windows_with_loops(size: tuple[int, int], stride: tuple[int, int]) -> None:
    window = SlidingWindow(size, stride)
    ramp = torch.randn(2, *size)

    def predict(images: torch.Tensor) -> torch.Tensor:
        """Each pixel's logits depend on where it lies in its window."""
        return images[:, :2] * ramp

    for height, width in ((size[0] + 1, size[1]), (23, 31), (20, 47), (40, 60)):
        images = torch.randn(3, 3, height, width)
        torch.testing.assert_close(slide(window, images, predict), window(images, predict))


def test_normalization_is_that_of_the_image_processor() -> None:
    images = torch.randint(256, (2, 32, 48, 3), dtype=torch.uint8)
    for options in ({}, {"do_normalize": False}, {"do_rescale": False}):
        ours = SegformerImageProcessorPil(do_resize=False, **options)
        expected = ours(images=list(images.numpy()), return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(Normalization.of(ours)(images), expected.float())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model.pt2", {"export_format": "onnx"}, "give one that ends in .onnx"),
        ("model.onnx", {"export_format": "torch_export"}, "give one that ends in .pt2"),
        ("model.onnx", {"size": (40, 80)}, "from 64 x 64 pixels on, not 40 x 80"),
    ],
)
def test_bad_requests_are_refused_before_the_work(name: str, options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export_checkpoint(network("hrda"), processor(), tmp_path / name, **options)
    assert not any(tmp_path.iterdir())


def test_missing_packages_and_other_networks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("segformer")
    model.config = UperNetConfig()
    with pytest.raises(ValueError, match="a upernet cannot be exported: give one of segformer, daformer"):
        export_checkpoint(model, processor(), tmp_path / "model.pt2", "torch_export")
    monkeypatch.setattr(export, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match="pip install onnx onnxscript onnxruntime"):
        export_checkpoint(model, processor(), tmp_path / "model.onnx")
