import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    PreTrainedModel,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForImageClassification,
)

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.hub.conversion import convert_checkpoint, convert_to_reference
from mfm_hf.hub.reference.checkpoint import CheckpointError
from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import DetailBox
from tests.golden_files import golden
from tests.reference_weights import NETWORKS, TINY_HEADS, reference_weights

Save = Callable[[Any], Path]


def load(folder: Path, auto_class: type = AutoModelForSemanticSegmentation) -> PreTrainedModel:
    model, report = auto_class.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model


def converted(name: str, save: Save, folder: Path) -> PreTrainedModel:
    convert_checkpoint(save({"meta": {}, "state_dict": reference_weights(name)}), folder, settings=NETWORKS[name])
    return load(folder)


def near(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["net_mit_segformer", "net_mit_daformer", "net_dlv2_r50v1c"])
def test_a_converted_network_computes_what_the_reference_does(name: str, save: Save, tmp_path: Path) -> None:
    model = converted(name, save, tmp_path / "out")
    _, tensors = golden(name)
    for case in ("eval", "odd"):
        with torch.no_grad():
            outputs = model(tensors["input" if case == "eval" else "odd.input"], output_hidden_states=True)
        near(outputs.logits, tensors[f"{case}.logits"])
        for stage, features in enumerate(outputs.hidden_states):
            if f"{case}.feat.{stage}" in tensors:
                near(features, tensors[f"{case}.feat.{stage}"])


def test_a_converted_hrda_slides_as_the_reference_does(save: Save, tmp_path: Path) -> None:
    model = converted("net_hrda_mit_daformer", save, tmp_path / "out")
    manifest, tensors = golden("net_hrda_mit_daformer")
    with torch.no_grad():
        features = model.encode(tensors["input"])
        near(model.decode(features), tensors["eval.logits"])
    for stage, context in enumerate(features.context):
        near(context, tensors[f"eval.lr_feat.{stage}"])
    near(features.detail[3], tensors["eval.hr_feat.3"])
    assert [list(box) for box in features.boxes] == manifest["eval_hr_boxes"]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_converted_hrda_sees_a_detail_box_as_the_reference_does(mode: str, save: Save, tmp_path: Path) -> None:
    model = converted("net_hrda_mit_daformer", save, tmp_path / "out").train(mode == "train")
    manifest, tensors = golden("net_hrda_mit_daformer")
    for layer in model.modules():  # the recording has neither dropout nor drop path
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
        elif type(layer).__name__ == "SegformerDropPath":
            layer.drop_prob = 0.0
    with torch.no_grad():
        logits = model.decode_with_detail(model.encode(tensors["input"], DetailBox(*manifest["hr_crop_box"])))
    near(logits.fused, tensors[f"crop_{mode}.fused"])
    near(logits.detail, tensors[f"crop_{mode}.hr"])


@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back_is_the_same_file(name: str, save: Save, tmp_path: Path) -> None:
    converted(name, save, tmp_path / "out")
    convert_to_reference(tmp_path / "out", tmp_path / "back.pth")
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    assert content["meta"]["CLASSES"] == CITYSCAPES.names
    back, original = content["state_dict"], reference_weights(name)
    assert back.keys() == original.keys()
    for key, tensor in original.items():
        if "decode_head.conv_seg" in key and name == "net_mit_segformer":  # never read: not kept
            assert not back[key].any()
        else:
            assert_close(back[key], tensor, rtol=0, atol=0)


def test_the_segformer_head_of_nvlabs_concatenates_the_other_way_round(save: Save, tmp_path: Path) -> None:
    weights = reference_weights("net_mit_segformer")
    fused = weights["decode_head.linear_fuse.conv.weight"]
    size = fused.shape[0]
    deepest_first = [fused[:, stage * size : (stage + 1) * size] for stage in (3, 2, 1, 0)]
    nvlabs = {
        name.replace("linear_c.3.", "linear_c4.")
        .replace("linear_c.2.", "linear_c3.")
        .replace("linear_c.1.", "linear_c2.")
        .replace("linear_c.0.", "linear_c1."): tensor
        for name, tensor in weights.items()
    }
    nvlabs["decode_head.linear_fuse.conv.weight"] = torch.cat(deepest_first, dim=1)
    nvlabs["decode_head.conv_seg.weight"] = torch.zeros(19, 128, 1, 1)
    convert_checkpoint(save({"state_dict": nvlabs}), tmp_path / "out", settings=TINY_HEADS)
    _, tensors = golden("net_mit_segformer")
    with torch.no_grad():
        near(load(tmp_path / "out")(tensors["input"]).logits, tensors["eval.logits"])

    convert_to_reference(tmp_path / "out", tmp_path / "back.pth", layout="nvlabs")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert back.keys() == nvlabs.keys()
    for key in set(nvlabs) - {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}:
        assert_close(back[key], nvlabs[key], rtol=0, atol=0)


def test_the_folder_is_complete(save: Save, tmp_path: Path) -> None:
    model = converted("net_hrda_mit_daformer", save, tmp_path / "new" / "out")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out"]
    config = json.loads((tmp_path / "new" / "out" / "config.json").read_text())
    assert config["architectures"] == ["HrdaForSemanticSegmentation"]
    assert config["base_config"]["backbone_config"]["layer_norm_eps"] == 1e-6
    assert config["base_config"]["id2label"] == config["id2label"]
    assert model.config.id2label == CITYSCAPES.id2label
    assert model.config.label2id == CITYSCAPES.label2id
    processor = json.loads((tmp_path / "new" / "out" / "preprocessor_config.json").read_text())
    assert not processor["do_resize"]
    assert processor["image_mean"] == [0.485, 0.456, 0.406]
    assert processor["image_std"] == [0.229, 0.224, 0.225]


def test_the_student_or_the_teacher_of_a_training(save: Save, tmp_path: Path) -> None:
    weights = reference_weights("net_dlv2_r50v1c")
    bias = "decode_head.aspp_modules.0.conv.bias"
    networks = {"model.": 1.0, "ema_model.": 2.0, "imnet_model.": 3.0}
    training = {
        prefix + name: torch.full_like(tensor, value) if name == bias else tensor
        for prefix, value in networks.items()
        for name, tensor in weights.items()
    }
    checkpoint = save({"state_dict": training, "optimizer": {"state": {}}})
    for kind, value in (("student", 1.0), ("teacher", 2.0)):
        convert_checkpoint(checkpoint, tmp_path / kind, weights=kind)
        assert (load(tmp_path / kind).decode_head.branches[0].bias == value).all()


def test_class_names_come_from_the_user_then_the_file(save: Save, tmp_path: Path) -> None:
    in_file, by_user = ([f"{kind} {index}" for index in range(19)] for kind in ("file", "user"))
    checkpoint = save({"state_dict": reference_weights("net_dlv2_r50v1c"), "meta": {"CLASSES": tuple(in_file)}})
    convert_checkpoint(checkpoint, tmp_path / "a")
    assert load(tmp_path / "a").config.id2label == dict(enumerate(in_file))
    convert_checkpoint(checkpoint, tmp_path / "b", class_names=by_user)
    assert load(tmp_path / "b").config.id2label == dict(enumerate(by_user))
    with pytest.raises(CheckpointError, match=r"18 class names .* 19 classes"):
        convert_checkpoint(checkpoint, tmp_path / "c", class_names=by_user[1:])
    assert not (tmp_path / "c").exists()


def mit_weights() -> dict[str, Tensor]:
    weights = reference_weights("net_mit_daformer")
    return {name.removeprefix("backbone."): value for name, value in weights.items() if name.startswith("backbone.")}


@pytest.mark.parametrize("with_classifier", [True, False])
def test_an_imagenet_mit_becomes_an_encoder(with_classifier: bool, save: Save, tmp_path: Path) -> None:
    weights = mit_weights()
    if with_classifier:
        weights.update({"head.weight": torch.randn(10, 32), "head.bias": torch.randn(10)})
    convert_checkpoint(save(weights), tmp_path / "mit", settings=TINY_HEADS)
    if with_classifier:
        classifier = load(tmp_path / "mit", AutoModelForImageClassification)
        assert isinstance(classifier, SegformerForImageClassification)
        assert_close(classifier.classifier.weight, weights["head.weight"])

    config = DaformerConfig(backbone_config=SegformerConfig.from_pretrained(tmp_path / "mit"), decoder_hidden_size=16)
    model, report = DaformerForSemanticSegmentation.from_pretrained(
        tmp_path / "mit", config=config, output_loading_info=True
    )
    assert {name.partition(".")[0] for name in report["missing_keys"]} == {"decode_head"}
    _, tensors = golden("net_mit_daformer")
    with torch.no_grad():
        for stage, features in enumerate(model.encode(tensors["input"])):
            near(features, tensors[f"eval.feat.{stage}"])

    convert_to_reference(tmp_path / "mit", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())


def resnet_v1c_weights() -> dict[str, Tensor]:
    """Without the counters of BatchNorm, as in files of old PyTorch versions."""
    return {
        name.removeprefix("backbone."): tensor
        for name, tensor in reference_weights("net_dlv2_r50v1c").items()
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked")
    }


def test_an_imagenet_resnet_with_deep_stem_becomes_an_encoder(save: Save, tmp_path: Path) -> None:
    weights = {**resnet_v1c_weights(), "fc.weight": torch.randn(10, 256), "fc.bias": torch.randn(10)}
    convert_checkpoint(save({"state_dict": weights}), tmp_path / "resnet")
    model, report = DeepLabV2ForSemanticSegmentation.from_pretrained(tmp_path / "resnet", output_loading_info=True)
    assert {name.partition(".")[0] for name in report["missing_keys"]} == {"decode_head"}
    _, tensors = golden("net_dlv2_r50v1c")
    with torch.no_grad():
        near(model.encode(tensors["input"])[0], tensors["eval.feat.3"])

    convert_to_reference(tmp_path / "resnet", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(back[name], tensor) for name, tensor in resnet_v1c_weights().items())


def test_an_imagenet_resnet_with_plain_stem_becomes_a_classifier_and_an_encoder(save: Save, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in resnet_v1c_weights().items() if not name.startswith("stem.")}
    weights["conv1.weight"] = torch.randn(8, 3, 7, 7)
    weights.update({f"bn1.{leaf}": torch.rand(8) for leaf in ("weight", "bias", "running_mean", "running_var")})
    weights.update({"fc.weight": torch.randn(10, 256), "fc.bias": torch.randn(10)})
    convert_checkpoint(save(weights), tmp_path / "resnet")
    classifier = load(tmp_path / "resnet", AutoModelForImageClassification)
    assert isinstance(classifier, ResNetForImageClassification)

    config = DeepLabV2Config(backbone_config=classifier.config)
    model = DeepLabV2ForSemanticSegmentation.from_pretrained(tmp_path / "resnet", config=config)
    pixel_values = torch.randn(1, 3, 32, 32)
    stem = nn.functional.conv2d(pixel_values, weights["conv1.weight"], stride=2, padding=3)
    stem = nn.functional.batch_norm(
        stem, *(weights[f"bn1.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    )
    expected = nn.functional.max_pool2d(stem.relu(), 3, stride=2, padding=1)
    with torch.no_grad():
        assert_close(model.resnet.embedder(pixel_values), expected)
    assert_close(model.resnet.encoder.stages[3].layers[2].layer[1].convolution.weight, weights["layer4.2.conv2.weight"])


def test_what_holds_something_is_never_written_over(save: Save, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    checkpoint = save({"state_dict": reference_weights("net_dlv2_r50v1c")})
    with pytest.raises(FileExistsError, match="not an empty folder"):
        convert_checkpoint(checkpoint, tmp_path / "out")
    with pytest.raises(FileExistsError, match="exists"):
        convert_to_reference(tmp_path / "out", checkpoint)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(save: Save, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    converted("net_dlv2_r50v1c", save, tmp_path / "out")


def test_a_failure_leaves_nothing_behind(save: Save, tmp_path: Path) -> None:
    weights = reference_weights("net_dlv2_r50v1c")
    del weights["backbone.layer3.1.bn2.weight"]
    checkpoint = save({"state_dict": weights})
    with pytest.raises(CheckpointError, match=r"lacks 'backbone\.layer3\.1\.bn2\.weight'"):
        convert_checkpoint(checkpoint, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_folder_without_counterpart_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    with pytest.raises(CheckpointError, match="holds a ViTModel"):
        convert_to_reference(tmp_path, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
