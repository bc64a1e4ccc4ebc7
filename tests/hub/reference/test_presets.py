import pytest
import torch
from transformers import ResNetConfig, SegformerConfig, SegformerModel

from mfm_hf.hub.reference.presets import encoder_name, published_attention_heads

SMALL, LARGE = [32, 64, 160, 256], [64, 128, 320, 512]


@pytest.mark.parametrize(
    ("name", "hidden_sizes", "depths", "parameters"),
    [
        ("mit-b0", SMALL, [2, 2, 2, 2], 3_319_392),
        ("mit-b1", LARGE, [2, 2, 2, 2], 13_151_424),
        ("mit-b2", LARGE, [3, 4, 6, 3], 24_196_288),
        ("mit-b3", LARGE, [3, 4, 18, 3], 44_072_128),
        ("mit-b4", LARGE, [3, 8, 27, 3], 60_842_688),
        ("mit-b5", LARGE, [3, 6, 40, 3], 81_443_008),
    ],
)
def test_mix_transformers(name: str, hidden_sizes: list[int], depths: list[int], parameters: int) -> None:
    config = SegformerConfig(hidden_sizes=hidden_sizes, depths=depths, num_attention_heads=[1, 2, 5, 8])
    assert published_attention_heads(hidden_sizes) == [1, 2, 5, 8]
    assert encoder_name(config) == name
    with torch.device("meta"):
        assert SegformerModel(config).num_parameters() == parameters


def test_resnets() -> None:
    assert encoder_name(ResNetConfig(depths=[3, 4, 6, 3])) == "resnet-50"
    assert encoder_name(ResNetConfig(depths=[3, 4, 23, 3])) == "resnet-101"


def test_others_are_told_by_their_depths() -> None:
    assert encoder_name(SegformerConfig(hidden_sizes=SMALL, depths=[1, 2, 3, 4])) == "an encoder of depths [1, 2, 3, 4]"
    assert encoder_name(ResNetConfig(depths=[1, 2, 3, 4])) == "an encoder of depths [1, 2, 3, 4]"
