import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, SegformerConfig, SegformerForImageClassification

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.mfm.auto import AutoModelForDomainAdaptation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from tests.tiny_models import REBUILDER, deeplabv2_config, encoder_config

LABELS = {"id2label": CITYSCAPES.id2label, "label2id": CITYSCAPES.label2id}
ARCHITECTURES = [("segformer", None), ("daformer", None), ("deeplabv2", None)]
ARCHITECTURES += [("hrda", base) for base in ("segformer", "daformer", "deeplabv2")]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Small ImageNet classifiers, as the encoders on the Hub are."""
    root = tmp_path_factory.mktemp("encoders")
    SegformerForImageClassification(SegformerConfig(**vars_of(encoder_config()))).save_pretrained(root / "mit")
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1])
    ResNetForImageClassification(resnet).save_pretrained(root / "resnet")
    return root


def vars_of(config: SegformerConfig) -> dict:
    return {name: getattr(config, name) for name in ("hidden_sizes", "depths", "num_attention_heads")}


@pytest.mark.parametrize(("head", "base"), ARCHITECTURES)
def test_over_an_encoder_and_from_scratch(head, base, encoders):
    options = {"rebuilder": REBUILDER, **LABELS} | ({"hrda_base": base, "detail_crop_size": [32, 32]} if base else {})
    folder = encoders / ("resnet" if "deeplabv2" in (head, base) else "mit")
    loaded = AutoModelForDomainAdaptation.from_pretrained(str(folder), head=head, **options)
    fresh = AutoModelForDomainAdaptation.from_scratch("tiny", head, **options)
    published = ResNetForImageClassification if folder.name == "resnet" else SegformerForImageClassification
    expected = published.from_pretrained(folder).base_model.state_dict()
    own = loaded.encoder.state_dict()
    assert expected.keys() == own.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in expected.items())

    for model in (loaded, fresh):
        assert model.training
        assert model.config.id2label == CITYSCAPES.id2label
        features = model.encode_views([torch.randn(2, 3, 64, 64)], [model.draw_detail(64, 64, torch.Generator())])[0]
        assert model.decode(model.rebuild(features)).shape[1] == 19


@pytest.mark.parametrize(("head", "base"), ARCHITECTURES)
def test_a_whole_network_says_itself_what_it_is(head, base, tmp_path):
    options = LABELS | ({"hrda_base": base, "detail_crop_size": [32, 32]} if base else {})
    model = AutoModelForDomainAdaptation.from_scratch("tiny", head, **options)
    model.save_pretrained(tmp_path)
    again = AutoModelForDomainAdaptation.from_pretrained(str(tmp_path), rebuilder=REBUILDER)
    assert type(again) is type(model)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_hrda_around_a_trained_daformer(tmp_path):
    daformer = AutoModelForDomainAdaptation.from_scratch("tiny", "daformer", **LABELS)
    daformer.save_pretrained(tmp_path)
    hrda = AutoModelForDomainAdaptation.from_pretrained(str(tmp_path), head="hrda", detail_crop_size=[32, 32])
    assert all(torch.equal(hrda.base.state_dict()[name], tensor) for name, tensor in daformer.state_dict().items())


def test_a_deep_stem_encoder(tmp_path):
    """As the conversion of an ImageNet ResNet-v1c leaves it: a DeepLab-V2 folder without its head."""
    encoder = DeepLabV2ForSemanticSegmentation(deeplabv2_config(stem="deep"))
    without_head = {name: value for name, value in encoder.state_dict().items() if not name.startswith("decode_head.")}
    encoder.config.architectures = None
    encoder.save_pretrained(tmp_path, state_dict=without_head)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"DeepLabV2ForSemanticSegmentation"', '"DilatedResNet"'))
    model = AutoModelForDomainAdaptation.from_pretrained(str(tmp_path), head="deeplabv2", **LABELS)
    assert model.decode_head.branches[0].out_channels == 19
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in without_head.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "mit-b9", "head": "segformer"}, "mit-b0"),
        ({"backbone": "mit-b0", "head": "deeplabv2"}, "resnet-50"),
    ],
)
def test_unknown_encoders(arguments, message):
    with pytest.raises(ValueError, match=message):
        AutoModelForDomainAdaptation.from_scratch(**arguments)


def test_misfits(encoders, tmp_path):
    with pytest.raises(ValueError, match="no 'deeplabv2'"):
        AutoModelForDomainAdaptation.from_pretrained(str(encoders / "mit"), head="deeplabv2")
    with pytest.raises(ValueError, match="give --model"):
        AutoModelForDomainAdaptation.from_pretrained(str(encoders / "resnet"))
    AutoModelForDomainAdaptation.from_scratch("tiny", "segformer", **LABELS).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="19 classes, but 3 are wanted"):
        AutoModelForDomainAdaptation.from_pretrained(str(tmp_path), num_labels=3)
