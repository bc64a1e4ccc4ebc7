import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
)

from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.detail_windows import DetailBox, cover, merge_windows
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation, fuse_scales
from mfm_hf.models.sliding_window import SlidingWindow
from tests.models.segmenter_tester import (
    NUM_LABELS,
    daformer_config,
    deeplabv2_config,
    hrda_config,
    images,
    labels,
    segformer_config,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "algo_hrda_fusion.json"


@pytest.fixture
def model() -> HrdaForSemanticSegmentation:
    torch.manual_seed(0)
    return HrdaForSemanticSegmentation(hrda_config(daformer_config())).eval()


@pytest.mark.parametrize(
    ("config", "total", "attention"),
    [
        (HrdaConfig(DaformerConfig(), num_labels=19), 85_685_990, 530_707),
        (HrdaConfig(DeepLabV2Config(stem="deep"), num_labels=19), 43_920_300, 700_454),
    ],
)
def test_number_of_parameters(config: HrdaConfig, total: int, attention: int):
    with torch.device("meta"):
        model = HrdaForSemanticSegmentation(config)
    assert model.num_parameters() == total
    assert sum(parameter.numel() for parameter in model.scale_attention.parameters()) == attention


def test_fusion_is_that_of_the_reference():
    golden, boxes = load_file(GOLDEN.with_suffix(".safetensors")), json.loads(GOLDEN.read_text())
    context, detail, attention_logits = (
        golden[f"train.{name}"].requires_grad_() for name in ("lr", "hr", "attention_logits")
    )
    box = DetailBox(*boxes["hr_crop_box"])
    attention = attention_logits.sigmoid() * cover([box.inner(8)], like=context)
    fused = fuse_scales(context, merge_windows(detail, [box.inner(4)], (32, 32)), attention)
    torch.testing.assert_close(fused, golden["train.fused"])

    # The loss of the reference: weighted cross entropy averaged over all pixels, ignored ones included.
    def loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        upsampled = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        return (F.cross_entropy(upsampled, labels, ignore_index=255, reduction="none") * weights).mean()

    target, weights = golden["label"][:, 0].long(), golden["seg_weight"]
    (0.9 * loss(fused, target, weights) + 0.1 * loss(detail, box.cut(target), box.cut(weights))).backward()
    for tensor, name in ((context, "lr"), (detail, "hr"), (attention_logits, "attention_logits")):
        torch.testing.assert_close(tensor.grad, golden[f"train.grad_{name}"], rtol=1e-4, atol=1e-8)


def test_sliding_windows_merge_as_in_the_reference():
    golden, boxes = load_file(GOLDEN.with_suffix(".safetensors")), json.loads(GOLDEN.read_text())
    boxes = [DetailBox(*box).inner(4) for box in boxes["slide_boxes"]]
    torch.testing.assert_close(merge_windows(golden["slide.hr_crops"], boxes, (32, 32)), golden["slide.hr_full"])


@torch.no_grad()
def test_context_and_detail_are_the_bases_features(model: HrdaForSemanticSegmentation):
    box = DetailBox(8, 40, 56, 88)
    features = model.encode(images(), box)
    context = model.base.encode(F.avg_pool2d(images(), 2))  # what bilinear halving comes to
    detail = model.base.encode(images()[:, :, 8:40, 56:88])
    for ours, expected in zip((*features.context, *features.detail), (*context, *detail), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encode_context(images()), features.context)
    assert (features.boxes, features.size) == ((box,), (64, 96))


@torch.no_grad()
def test_detail_has_a_say_inside_its_box_alone(model: HrdaForSemanticSegmentation):
    box = DetailBox(16, 48, 32, 64)
    features = model.encode(images(), box)
    changed = model.decode(features._replace(detail=tuple(-feature for feature in features.detail)))
    difference = (changed - model.decode(features)).abs().amax(dim=(0, 1)) > 0
    assert difference[4:12, 8:16].all()
    assert difference.sum() == 8 * 8


@torch.no_grad()
def test_detail_logits_are_those_of_the_box(model: HrdaForSemanticSegmentation):
    box = DetailBox(16, 48, 32, 64)
    logits = model.decode_with_detail(model.encode(images(), box))
    torch.testing.assert_close(logits.detail, model.base(box.cut(images())).logits)
    assert logits.detail_box == box
    sliding = model.decode_with_detail(model.encode(images(65, 83)))
    assert sliding.detail_box == DetailBox(0, 65, 0, 83)
    assert sliding.detail.shape == sliding.fused.shape == (2, NUM_LABELS, 17, 21)


@torch.no_grad()
def test_training_mode_does_not_decide_what_is_seen_in_detail(model: HrdaForSemanticSegmentation):
    assert len(model.train().encode(images()).boxes) == 3 * 5
    assert len(model.eval().encode(images(), DetailBox(0, 32, 0, 32)).boxes) == 1


@torch.no_grad()
def test_a_window_larger_than_the_image_sees_all_of_it():
    config = hrda_config(daformer_config())
    config.detail_crop_size = [512, 512]
    model = HrdaForSemanticSegmentation(config).eval()
    whole = DetailBox(0, 64, 0, 96)
    assert model.encode(images()).boxes == (whole,)
    torch.testing.assert_close(model(images()).logits, model.decode(model.encode(images(), whole)))
    assert model.draw_detail_box(64, 96, torch.Generator()) == whole


def test_loss_is_shared_between_fused_and_detail_logits(model: HrdaForSemanticSegmentation):
    def loss(detail_loss_weight: float) -> float:
        model.config.detail_loss_weight = detail_loss_weight
        return model(images(), labels=labels()).loss.item()

    assert loss(0.1) == pytest.approx(0.9 * loss(0.0) + 0.1 * loss(1.0))
    logits = F.interpolate(model(images()).logits, size=(64, 96), mode="bilinear", align_corners=False)
    assert loss(0.0) == pytest.approx(F.cross_entropy(logits, labels(), ignore_index=255).item())


def windowed(model: HrdaForSemanticSegmentation) -> HrdaForSemanticSegmentation:
    """Let the network see images in windows of 64 x 64: images of 96 x 128 in six of them."""
    model.config.window_size, model.config.window_stride = [64, 64], [32, 32]
    return model


@torch.no_grad()
def test_a_large_image_is_seen_in_windows(model: HrdaForSemanticSegmentation):
    large = images(96, 128)
    expected = SlidingWindow((64, 64), (32, 32))(large, lambda window: model(window).logits)
    whole = model(large).logits
    logits = windowed(model)(large).logits
    assert logits.shape == (2, NUM_LABELS, 96, 128)
    torch.testing.assert_close(logits, expected)
    # A training crop is one window, and encode and decode know of none.
    assert model(large[..., :64, :64]).logits.shape[-2:] == (16, 16)
    torch.testing.assert_close(model.decode(model.encode(large)), whole)


@torch.no_grad()
def test_windows_give_the_loss_of_their_logits_and_their_hidden_states(model: HrdaForSemanticSegmentation):
    large, truth = images(96, 128), labels(96, 128)
    outputs = windowed(model)(large, labels=truth, output_hidden_states=True)
    assert outputs.logits.shape == (2, NUM_LABELS, 96, 128)
    assert [len(stage) for stage in outputs.hidden_states] == [2 * 6] * 4
    model.config.detail_loss_weight = 0.0
    expected = F.cross_entropy(outputs.logits, truth, ignore_index=255)
    torch.testing.assert_close(model(large, labels=truth).loss, expected)


def test_windows_of_the_config(tmp_path):
    published = HrdaConfig()
    assert (published.window_size, published.window_stride) == ([1024, 1024], [512, 512])
    assert HrdaConfig(detail_crop_size=(64, 128)).sliding_window == SlidingWindow((128, 256), (64, 128))
    whole = HrdaConfig(daformer_config(), window_size=None)
    assert whole.sliding_window is None
    whole.save_pretrained(tmp_path)
    assert HrdaConfig.from_pretrained(tmp_path).sliding_window is None


@pytest.mark.parametrize("box", [(0, 72, 0, 32), (-8, 24, 0, 32), (2, 34, 0, 32), (32, 32, 0, 32)])
def test_a_box_off_the_image_or_off_the_grid_is_refused(model: HrdaForSemanticSegmentation, box: tuple[int, ...]):
    with pytest.raises(ValueError, match="must lie within the 64 x 96 image, its sides on multiples of 4"):
        model.encode(images(), DetailBox(*box))


def test_encoders_and_whole_bases_load(tmp_path):
    resnet = ResNetForImageClassification(ResNetConfig(**_sizes(deeplabv2_config().backbone_config)))
    mit = SegformerForImageClassification(segformer_config())
    daformer = DaformerForSemanticSegmentation(daformer_config())
    segformer = SegformerForSemanticSegmentation(segformer_config())
    for name, source, base_config, missing in (
        ("resnet", resnet, deeplabv2_config(), ("base.decode_head.", "scale_attention.")),
        ("mit", mit, daformer_config(), ("base.decode_head.", "scale_attention.")),
        ("mit_segformer", mit, segformer_config(), ("base.decode_head.", "scale_attention.")),
        ("daformer", daformer, daformer_config(), ("scale_attention.",)),
        ("segformer", segformer, segformer_config(), ("scale_attention.",)),
    ):
        source.save_pretrained(tmp_path / name)
        model, info = HrdaForSemanticSegmentation.from_pretrained(
            tmp_path / name, config=hrda_config(base_config), output_loading_info=True
        )
        expected = {key for key in model.state_dict() if key.startswith(missing)}
        assert info["missing_keys"] == expected, name
        assert all(key.startswith("classifier") for key in info["unexpected_keys"]), name
        loaded = model.base.base_model.state_dict()
        assert all(loaded[key].equal(tensor) for key, tensor in source.base_model.state_dict().items()), name


def _sizes(config: ResNetConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in ("embedding_size", "hidden_sizes", "depths")}


def test_the_base_has_the_classes_of_the_whole():
    assert hrda_config(daformer_config()).num_labels == NUM_LABELS
    config = hrda_config(daformer_config())
    config.id2label = {0: "road", 1: "sky"}
    config.label2id = {"road": 0, "sky": 1}
    model = HrdaForSemanticSegmentation(config)
    assert model(images()).logits.shape[1] == 2
    assert model.base.config.id2label == config.id2label


def test_config_survives_a_round_trip(tmp_path):
    config = HrdaConfig(deeplabv2_config(stem="deep"), detail_crop_size=(64, 128), detail_loss_weight=0.2)
    config.save_pretrained(tmp_path)
    loaded = HrdaConfig.from_pretrained(tmp_path)
    assert isinstance(loaded.base_config, DeepLabV2Config)
    assert loaded.base_config.stem == "deep"
    assert loaded.base_config.backbone_config.hidden_sizes == [16, 16, 32, 32]
    assert loaded.num_labels == loaded.base_config.num_labels == NUM_LABELS
    assert (loaded.detail_crop_size, loaded.detail_stride) == ([64, 128], [32, 64])
    assert loaded.detail_loss_weight == 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_config": ResNetConfig()}, "one of daformer, deeplabv2, segformer, not 'resnet'"),
        ({"context_scale": 0.4}, "context_scale must be 1 / n for a whole n, such as 0.5, not 0.4"),
        ({"detail_crop_size": (100, 96)}, "detail_crop_size must be two positive multiples of crop_divisor=8"),
        ({"detail_stride": (64,)}, "detail_stride must be two positive multiples of crop_divisor=8"),
        ({"detail_crop_size": (64, 64), "detail_stride": (64, 72)}, "leaves gaps between windows"),
        ({"window_size": (64, 64), "window_stride": (64, 72)}, "leaves gaps between windows"),
        ({"window_size": (64,)}, "window_size must be two numbers of pixels"),
        ({"window_size": None, "window_stride": (64, 64)}, "needs a window_size"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        HrdaConfig(**arguments)


def test_a_grid_finer_than_the_logits_is_refused():
    config = HrdaConfig(deeplabv2_config(), detail_crop_size=(32, 32), crop_divisor=4)
    with pytest.raises(ValueError, match="crop_divisor=4 must be a multiple of the base's logit stride, 8"):
        HrdaForSemanticSegmentation(config)


@torch.no_grad()
def test_other_scales_of_the_context():
    config = HrdaConfig(daformer_config(), context_scale=0.25, detail_crop_size=(64, 64), attention_hidden_size=8)
    model = HrdaForSemanticSegmentation(config).eval()
    features = model.encode(images(128, 128))
    assert features.context[0].shape[-2:] == (8, 8)
    assert model.decode(features).shape[-2:] == (32, 32)


def test_default_base_is_the_published_one():
    assert isinstance(HrdaConfig().base_config, DaformerConfig)
    assert isinstance(HrdaConfig({"model_type": "segformer", "depths": [1, 1, 1, 1]}).base_config, SegformerConfig)
