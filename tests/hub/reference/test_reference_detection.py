import json
from typing import Any

import pytest
import torch
from torch import Tensor

from mfm_hf.hub.reference.checkpoint import CheckpointError
from mfm_hf.hub.reference.detection import detect_network
from mfm_hf.hub.reference.settings import Settings
from tests.golden_files import GOLDEN
from tests.reference_weights import NETWORKS, reference_weights

PUBLISHED = {
    "keys_daformer_mitb5": (85_155_283, "DaformerForSemanticSegmentation with mit-b5, 19 classes"),
    "keys_deeplabv2_r101v1c": (43_920_300, "DeepLabV2ForSemanticSegmentation with resnet-101, 19 classes"),
    "keys_hrda_mitb5": (85_685_990, "HrdaForSemanticSegmentation with mit-b5, 19 classes"),
    "keys_mic_hrda_mitb5": (85_685_990, "HrdaForSemanticSegmentation with mit-b5, 19 classes"),
    "keys_segformer_mitb5": (84_610_406 - 128 * 19 - 19, "SegformerForSemanticSegmentation with mit-b5, 19 classes"),
}


def published(name: str) -> dict[str, Tensor]:
    """Names and shapes of a full-size checkpoint, without memory."""
    manifest = json.loads((GOLDEN / f"{name}.json").read_text())
    counters = set(manifest["int64_keys"])
    return {
        key: torch.empty(shape, dtype=torch.int64 if key in counters else torch.float32, device="meta")
        for key, shape in manifest["segmentor"].items()
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_of_a_published_checkpoint_has_its_place(name: str) -> None:
    tensors = published(name)
    network = detect_network(tensors, Settings({}))
    parameters, description = PUBLISHED[name]
    assert network.model.num_parameters() == parameters
    assert str(network) == description
    assert {key: value.shape for key, value in network.to_reference().items()} == {
        key: value.shape for key, value in tensors.items()
    }
    assert {key: (value.shape, value.dtype) for key, value in network.to_ours(tensors).items()} == {
        key: (value.shape, value.dtype) for key, value in network.model.state_dict().items()
    }


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "segformer" not in name])
def test_the_modules_stand_in_the_order_of_the_reference(name: str) -> None:
    tensors = published(name)
    assert list(detect_network(tensors, Settings({})).to_reference()) == list(tensors)


def test_the_configs_of_the_published_networks() -> None:
    config = detect_network(published("keys_hrda_mitb5"), Settings({})).model.config
    assert config.detail_crop_size == [512, 512]
    assert config.detail_stride == [256, 256]
    assert config.attention_hidden_size == 256
    daformer = config.base_config
    assert daformer.dilations == [1, 6, 12, 18]
    assert daformer.decoder_hidden_size == 256
    encoder = daformer.backbone_config
    assert encoder.depths == [3, 6, 40, 3]
    assert encoder.hidden_sizes == [64, 128, 320, 512]
    assert encoder.num_attention_heads == [1, 2, 5, 8]
    assert encoder.sr_ratios == [8, 4, 2, 1]
    assert encoder.mlp_ratios == [4, 4, 4, 4]
    assert encoder.patch_sizes == [7, 3, 3, 3]
    assert encoder.layer_norm_eps == 1e-6
    deeplabv2 = detect_network(published("keys_deeplabv2_r101v1c"), Settings({})).model.config
    assert deeplabv2.dilations == [6, 12, 18, 24]
    assert deeplabv2.stem == "deep"
    assert deeplabv2.contract_dilation
    assert detect_network(published("keys_segformer_mitb5"), Settings({})).model.config.decoder_hidden_size == 768


def test_two_branches_are_those_of_the_published_numbers() -> None:
    tensors = published("keys_deeplabv2_r101v1c")
    two = {key: value for key, value in tensors.items() if "aspp_modules.2" not in key and "aspp_modules.3" not in key}
    model = detect_network(two, Settings({})).model
    assert model.config.dilations == [6, 12]
    assert model.num_parameters() == 42_519_392 + 700_454


def test_hrda_over_deeplabv2() -> None:
    tensors = published("keys_deeplabv2_r101v1c")
    hrda = {key: value for key, value in tensors.items() if key.startswith("backbone.")}
    for part in ("head", "scale_attention"):
        for branch in range(2):
            prefix = f"decode_head.{part}.aspp_modules.{branch}.conv"
            hrda[f"{prefix}.weight"] = torch.empty(19, 2048, 3, 3, device="meta")
            hrda[f"{prefix}.bias"] = torch.empty(19, device="meta")
    network = detect_network(hrda, Settings({}))
    assert network.model.num_parameters() == 43_920_300
    assert network.to_ours(hrda).keys() == network.model.state_dict().keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"the weights do not tell num_attention_heads: add it, as in --set num_attention_heads=1,2,3,4"),
        ({"num_attention_heads": [1, 2]}, r"num_attention_heads must be 4 positive whole numbers, not \[1, 2\]"),
        ({"num_attention_heads": [1, 2, 5, 8]}, r"5 heads do not divide 24 channels"),
        ({"num_attention_heads": [1, 2, 3, 4], "depth": 3}, r"depth means nothing to this network: it has num_att"),
        ({"num_attention_heads": [1, 2, 3, 4], "dilations": [1, 6]}, r"dilations must be 4 positive whole numbers"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        detect_network(reference_weights("net_mit_daformer"), Settings(settings))


def test_settings_reach_the_config() -> None:
    settings = {
        "num_attention_heads": [1, 2, 3, 4],
        "dilations": [1, 2, 3, 4],
        "detail_crop_size": [64, 128],
        "detail_stride": [64, 128],
        "context_scale": 0.25,
    }
    config = detect_network(reference_weights("net_hrda_mit_daformer"), Settings(settings)).model.config
    assert config.base_config.backbone_config.num_attention_heads == [1, 2, 3, 4]
    assert config.base_config.dilations == [1, 2, 3, 4]
    assert config.detail_crop_size == config.detail_stride == [64, 128]
    assert config.context_scale == 0.25
    deeplabv2 = detect_network(reference_weights("net_dlv2_r50v1c"), Settings({"contract_dilation": False}))
    assert not deeplabv2.model.config.contract_dilation


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer5.conv2d_list.0.weight", "vikolss/DACS"),
        ("backbone.layers.0.0.projection.weight", "open-mmlab's own mmsegmentation"),
        ("segformer.encoder.block.0.0.layer_norm_1.weight", "weights of transformers already"),
        ("backbone.blocks.0.weight", "none of DAFormer, SegFormer and DeepLab-V2"),
        ("features.0.weight", "no network of DACS, DAFormer, HRDA, MIC or SegFormer"),
    ],
)
def test_other_networks_are_refused(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        detect_network({name: torch.zeros(1)}, Settings({}))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "backbone.block2.0.attn.q.weight",
            (16, 8),
            r"'backbone\.block2\.0\.attn\.q\.weight' has shape \(16, 8\).*\(16, 16\)",
        ),
        ("backbone.patch_embed1.proj.weight", (8, 3), r"has shape \(8, 3\): expected 4 dimensions"),
        ("backbone.patch_embed1.proj.weight", (0, 3, 7, 7), r"expected 4 dimensions, none 0"),
        ("rebuilder.mask_token", (1,), r"'rebuilder\.mask_token' has no place in a DaformerForSemanticSegmentation"),
        ("decode_head.conv_seg.bias", None, r"lacks 'decode_head\.conv_seg\.bias'"),
        ("backbone.block3.0.mlp.fc1.weight", None, r"lacks 'backbone\.block3\.0\.mlp\.fc1\.weight'"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(name: str, shape: tuple[int, ...] | None, message: str) -> None:
    weights = reference_weights("net_mit_daformer")
    if shape is None:
        del weights[name]
    else:
        weights[name] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=message):
        detect_network(weights, Settings(NETWORKS["net_mit_daformer"])).to_ours(weights)
