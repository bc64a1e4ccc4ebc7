import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from mfm_hf.models.compat import enable_activation_checkpointing
from mfm_hf.models.configuration_deeplabv2 import FOUR_BRANCHES, TWO_BRANCHES, DeepLabV2Config
from mfm_hf.models.dilated_resnet import DilatedResNet
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2DecodeHead, DeepLabV2ForSemanticSegmentation
from tests.models.segmenter_tester import deeplabv2_config, images, labels

TINY = {"embedding_size": 8, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 2, 2, 3]}


def test_number_of_parameters():
    def on_meta(**arguments: object) -> DeepLabV2ForSemanticSegmentation:
        with torch.device("meta"):
            return DeepLabV2ForSemanticSegmentation(DeepLabV2Config(num_labels=19, **arguments))

    two = on_meta(stem="deep")
    assert two.resnet.num_parameters() == 42_519_392
    assert two.num_parameters() - two.resnet.num_parameters() == 700_454
    four = on_meta(dilations=FOUR_BRANCHES)
    assert four.num_parameters() - four.resnet.num_parameters() == 1_400_908
    assert two.config.dilations == list(TWO_BRANCHES)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_dilation_computes_the_strided_network_on_a_finer_grid(output_stride: int):
    """Where the strided network has a position, the dilated one has the same features: every second, every fourth."""
    config = ResNetConfig(**TINY)
    strided = ResNetModel(config).eval()
    dilated = DilatedResNet(config, output_stride=output_stride).eval()
    missing, unexpected = dilated.load_state_dict(strided.state_dict())
    assert not missing
    assert not unexpected
    expected = strided(images(65, 83), output_hidden_states=True).hidden_states[1:]
    for ours, theirs, stride in zip(dilated(images(65, 83)), expected, (4, 8, 16, 32), strict=True):
        every = max(stride // output_stride, 1)
        torch.testing.assert_close(ours[..., ::every, ::every], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("contract", "dilations"), [(True, [1, 2, 2, 4, 4]), (False, [2, 2, 4, 4, 4])])
def test_contraction_spares_the_first_block_of_a_stage(contract: bool, dilations: list[int]):
    resnet = DilatedResNet(ResNetConfig(**TINY), contract_dilation=contract)
    blocks = [block for stage in resnet.encoder.stages[2:] for block in stage.layers]
    assert [block.layer[1].convolution.dilation[0] for block in blocks] == dilations


def test_deep_stem_has_three_convolutions():
    stem = DilatedResNet(ResNetConfig(**TINY), deep_stem=True).embedder.embedder
    convolutions = [layer.convolution for layer in stem]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == [(3, 4), (4, 4), (4, 8)]
    assert [layer.stride[0] for layer in convolutions] == [2, 1, 1]


@torch.no_grad()
def test_head_sums_its_branches():
    head, features = DeepLabV2DecodeHead(8, 5, (1, 2)), torch.randn(2, 8, 9, 11)
    expected = sum(
        F.conv2d(features, branch.weight, branch.bias, padding=dilation, dilation=dilation)
        for branch, dilation in zip(head.branches, (1, 2), strict=True)
    )
    torch.testing.assert_close(head([torch.empty(0), features]), expected)


@torch.no_grad()
def test_decoder_reads_the_last_stage_alone():
    model = DeepLabV2ForSemanticSegmentation(deeplabv2_config()).eval()
    features = model.encode(images())
    outputs = model(images(), output_hidden_states=True)
    assert len(features) == 1
    assert features[0].equal(outputs.hidden_states[-1])
    assert model.decode(features).equal(outputs.logits)
    assert (model.feature_channels, model.feature_strides) == ((32,), (8,))


def test_imagenet_checkpoints_load(tmp_path):
    imagenet = ResNetForImageClassification(ResNetConfig(**TINY))
    imagenet.save_pretrained(tmp_path)
    model, info = DeepLabV2ForSemanticSegmentation.from_pretrained(
        tmp_path, config=DeepLabV2Config(ResNetConfig(**TINY), num_labels=5), output_loading_info=True
    )
    assert info["missing_keys"] == {key for key in model.state_dict() if key.startswith("decode_head.")}
    assert info["unexpected_keys"] == {"classifier.1.weight", "classifier.1.bias"}
    loaded = model.resnet.state_dict()
    assert all(loaded[key].equal(tensor) for key, tensor in imagenet.resnet.state_dict().items())
    for branch in model.decode_head.branches:
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not branch.bias.any()


def test_a_fresh_encoder_keeps_the_scale_of_its_input():
    torch.manual_seed(0)
    model = DeepLabV2ForSemanticSegmentation(DeepLabV2Config(ResNetConfig(**TINY), stem="deep"))
    for layer in model.resnet.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.3)


def test_recomputing_leaves_later_training_alone():
    """The trick that keeps a batch from being counted twice must undo itself."""
    model = DeepLabV2ForSemanticSegmentation(deeplabv2_config()).train()
    enable_activation_checkpointing(model)
    model(images(), labels=labels()).loss.backward()
    norm = model.resnet.encoder.stages[3].layers[0].layer[0].normalization
    assert norm.num_batches_tracked == 1
    before = norm.running_mean.clone()
    model(images())
    assert norm.num_batches_tracked == 2
    assert not norm.running_mean.equal(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem": "wide"}, "stem must be 'plain' or 'deep', not 'wide'"),
        ({"output_stride": 4}, "output_stride must be 8, 16 or 32, not 4"),
        ({"backbone_config": {"layer_type": "basic"}}, "bottleneck blocks, such as ResNet-50"),
        ({"backbone_config": {"downsample_in_first_stage": True}}, "set downsample_in_first_stage=False"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        DeepLabV2Config(**arguments)
