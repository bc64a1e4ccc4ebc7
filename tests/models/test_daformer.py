import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F
from transformers import SegformerForImageClassification

from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.modeling_daformer import ConvNormAct, DaformerDecodeHead, DaformerForSemanticSegmentation
from tests.models.segmenter_tester import daformer_config, images, labels, segformer_config


@pytest.fixture
def model() -> DaformerForSemanticSegmentation:
    torch.manual_seed(0)
    return DaformerForSemanticSegmentation(daformer_config()).eval()


def test_number_of_parameters():
    with torch.device("meta"):
        model = DaformerForSemanticSegmentation(DaformerConfig(num_labels=19))
    assert model.num_parameters() == 85_155_283
    assert model.num_parameters() - model.segformer.num_parameters() == 3_712_275


@torch.no_grad()
def test_forward_is_decode_of_encode(model: DaformerForSemanticSegmentation):
    features = model.encode(images())
    assert model.decode(features).equal(model(images()).logits)
    assert model.feature_channels == tuple(feature.shape[1] for feature in features)
    assert model.feature_strides == tuple(64 // feature.shape[2] for feature in features)


def test_loss_is_the_mean_over_labelled_pixels_at_full_size(model: DaformerForSemanticSegmentation):
    outputs = model(images(), labels=labels())
    logits = F.interpolate(outputs.logits, size=(64, 96), mode="bilinear", align_corners=False)
    log_probabilities = logits.log_softmax(1).permute(0, 2, 3, 1)[labels() != 255]
    expected = -log_probabilities.gather(1, labels()[labels() != 255].unsqueeze(1)).mean()
    torch.testing.assert_close(outputs.loss, expected)


@torch.no_grad()
def test_head_brings_all_stages_to_the_size_of_the_finest():
    head = DaformerDecodeHead([2, 3], hidden_size=4, num_labels=8, fusion=nn.Identity(), dropout=0.0)
    head.classifier = nn.Identity()  # the logits are the embeddings, one after another
    fine, coarse = torch.randn(1, 2, 8, 6), torch.randn(1, 3, 4, 3)
    logits = head([fine, coarse])
    by_hand = torch.einsum("oc,bchw->bohw", head.embeddings[0].weight, fine) + head.embeddings[0].bias[:, None, None]
    torch.testing.assert_close(logits[:, :4], by_hand)
    by_hand = torch.einsum("oc,bchw->bohw", head.embeddings[1].weight, coarse) + head.embeddings[1].bias[:, None, None]
    torch.testing.assert_close(logits[:, 4:], F.interpolate(by_hand, scale_factor=2, mode="bilinear"))


def test_fusion_has_a_branch_for_every_dilation():
    aspp = DaformerForSemanticSegmentation(daformer_config()).decode_head.fusion
    assert isinstance(aspp.branches[0], ConvNormAct)
    assert [branch[0].conv.dilation[0] for branch in aspp.branches[1:]] == [6, 12, 18]
    assert all(branch[0].conv.groups == 64 for branch in aspp.branches[1:])


def test_imagenet_checkpoints_load(tmp_path):
    imagenet = SegformerForImageClassification(segformer_config())
    imagenet.save_pretrained(tmp_path)
    model, info = DaformerForSemanticSegmentation.from_pretrained(
        tmp_path, config=daformer_config(), output_loading_info=True
    )
    assert info["missing_keys"] == {key for key in model.state_dict() if key.startswith("decode_head.")}
    loaded = model.segformer.state_dict()
    assert all(loaded[key].equal(tensor) for key, tensor in imagenet.segformer.state_dict().items())
    assert model.decode_head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.3)


def test_files_hold_the_published_names_of_the_encoder(model: DaformerForSemanticSegmentation, tmp_path):
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "segformer.encoder.block.0.0.attention.self.query.weight" in names
    assert "decode_head.fusion.bottleneck.conv.weight" in names


def test_initial_weights_of_the_decoder_are_those_of_the_reference():
    torch.manual_seed(0)
    head = DaformerForSemanticSegmentation(DaformerConfig(segformer_config(), decoder_hidden_size=64)).decode_head
    for name, layer in head.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is None:
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2  # groups do not count, as in PyTorch
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.eq(1).all(), name
    assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert head.embeddings[0].weight.abs().max() <= 1 / 8**0.5
