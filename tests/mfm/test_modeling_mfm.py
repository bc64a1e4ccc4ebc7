import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from transformers import AutoModelForSemanticSegmentation, SegformerForSemanticSegmentation

from mfm_hf.mfm.feature_mask import stage_masks
from mfm_hf.mfm.modeling_mfm import SegformerForDomainAdaptation, weighted_cross_entropy
from mfm_hf.models.detail_windows import DetailBox
from mfm_hf.models.modeling_hrda import HrdaLogits
from tests.golden_files import golden
from tests.tiny_models import MODELS, REBUILDER, tiny_model

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def logits_of(model):
    with torch.no_grad():
        return model.decode(model.encode(IMAGES))


def tensor_names(folder):
    names = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names |= set(file.keys())
    return names


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("max_shard_size", ["5GB", "60KB"])
def test_saving_strips_the_rebuilder(name, max_shard_size, tmp_path):
    model = tiny_model(name).eval()
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (max_shard_size == "60KB")
    assert not any("rebuilder" in name for name in tensor_names(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert "rebuilder" not in json.dumps(config)
    assert config["architectures"] == [model.inference_class.__name__]

    loaded, info = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is model.inference_class
    assert not any(info.values())
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES).logits, logits_of(model))


@pytest.mark.parametrize("name", MODELS)
def test_export_is_that_of_a_network_that_never_had_a_rebuilder(name, tmp_path):
    torch.manual_seed(3)
    plain = tiny_model(name, rebuilder=None).eval()
    torch.manual_seed(3)
    model = tiny_model(name).eval()
    plain.save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "mfm")
    assert tensor_names(tmp_path / "plain") == tensor_names(tmp_path / "mfm")
    assert (tmp_path / "plain/config.json").read_text() == (tmp_path / "mfm/config.json").read_text()
    assert torch.equal(logits_of(plain), logits_of(model))
    count = [sum(p.numel() for p in network.parameters()) for network in (plain, model.to_inference())]
    assert count[0] == count[1]


def test_segformer_loads_where_this_package_cannot_be_imported(tmp_path):
    model = tiny_model().eval()
    model.save_pretrained(tmp_path)
    torch.save({"images": IMAGES, "logits": logits_of(model)}, tmp_path / "expected.pt")
    code = f"""
import sys
sys.modules["mfm_hf"] = None  # importing it raises ImportError
import torch
from transformers import AutoModelForSemanticSegmentation
expected = torch.load(r"{tmp_path / "expected.pt"}")
model, info = AutoModelForSemanticSegmentation.from_pretrained(r"{tmp_path}", output_loading_info=True)
assert type(model).__module__.startswith("transformers."), type(model)
assert not any(info.values()), info
with torch.no_grad():
    assert torch.equal(model(expected["images"]).logits, expected["logits"])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_gets_a_rebuilder_on_load(name, tmp_path):
    model = tiny_model(name).eval()
    model.save_pretrained(tmp_path)
    loaded, info = type(model).from_pretrained(tmp_path, rebuilder=REBUILDER, output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(logits_of(loaded), logits_of(model))
    # The Rebuilder starts as a fresh one does, and not with what uninitialised memory held.
    for own, fresh in zip(loaded.rebuilder.parameters(), model.rebuilder.parameters(), strict=True):
        assert own.isfinite().all()
        assert own.std(correction=0).item() == pytest.approx(fresh.std(correction=0).item(), rel=0.4, abs=1e-3)


def test_an_official_segformer_file_loads_whole(tmp_path):
    # As on the Hub: the names of transformers 4, which a subclass must be registered for.
    official = SegformerForSemanticSegmentation(tiny_model().config).eval()
    official.save_pretrained(tmp_path)
    assert any(name.startswith("decode_head.linear_c.") for name in tensor_names(tmp_path))
    model, info = SegformerForDomainAdaptation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        assert torch.equal(logits_of(model.eval()), official(IMAGES).logits)


def test_a_renamed_part_fails_loudly():
    model = tiny_model()
    tensors = model.state_dict()
    tensors["decode_head.renamed"] = tensors.pop("decode_head.classifier.bias")
    with pytest.raises(RuntimeError, match=r"decode_head\.renamed"):
        model.to_inference(tensors)


def test_to_inference_shares_the_weights():
    model = tiny_model()
    exported = dict(model.to_inference().named_parameters())
    for name, parameter in model.named_parameters():
        if not name.startswith("rebuilder."):
            assert exported[name].data_ptr() == parameter.data_ptr()


def test_no_rebuilder_no_rebuild():
    model = tiny_model(rebuilder=None)
    with pytest.raises(ValueError, match="rebuilder=RebuilderConfig"):
        model.rebuild(model.encode(IMAGES))


@pytest.mark.parametrize("name", MODELS)
def test_views_encoded_together_or_alone(name):
    model = tiny_model(name).eval()
    generator = torch.Generator().manual_seed(0)
    views = [(batch, model.draw_detail(64, 96, generator)) for batch in (IMAGES, IMAGES[:1].flip(-1))]
    together = model.encode_views(*zip(*views, strict=True))
    for (batch, detail), features in zip(views, together, strict=True):
        (alone,) = model.encode_views([batch], [detail])
        labels = torch.randint(0, 19, (len(batch), 64, 96))
        torch.testing.assert_close(model.decode(features), model.decode(alone), rtol=1e-4, atol=1e-5)
        one, other = (model.segmentation_loss(view, labels) for view in (features, alone))
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_rebuilt_features_can_be_decoded(name):
    model = tiny_model(name)
    generator = torch.Generator().manual_seed(0)
    (features,) = model.encode_views([IMAGES], [model.draw_detail(64, 96, generator)])
    rebuilt = model.rebuild(features, model.draw_mask(2, generator))
    assert model.decode(rebuilt).shape == model.decode(features).shape
    model.segmentation_loss(rebuilt, torch.randint(0, 19, (2, 64, 96))).backward()
    for parameter in model.rebuilder.parameters():
        assert parameter.grad is not None


def test_hrda_rebuilds_both_scales_under_masks_of_their_own():
    model = tiny_model("hrda")
    generator = torch.Generator().manual_seed(0)
    mask = model.draw_mask(2, generator)
    assert mask.shape == (2, 2, 4, 6)
    assert not torch.equal(mask[0], mask[1])
    (features,) = model.encode_views([IMAGES], [model.draw_detail(64, 96, generator)])
    rebuilt = model.rebuild(features, mask)
    assert rebuilt.boxes == features.boxes
    for name, scale_mask in zip(("context", "detail"), mask, strict=True):
        alone = model.rebuilder(getattr(features, name), scale_mask)
        assert all(torch.equal(a, b) for a, b in zip(getattr(rebuilt, name), alone, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_one_role(name):
    model = tiny_model(name)
    parts = [model.encoder, *model.decoders, model.rebuilder]
    by_role = [id(parameter) for part in parts for parameter in part.parameters()]
    assert sorted(by_role) == sorted(id(parameter) for parameter in model.parameters())


def test_gradient_reaches_the_first_patch_embedding_on_both_paths():
    model = tiny_model().eval()
    weight = model.base_model.stages[0].patch_embeddings.proj.weight
    features = model.encode(IMAGES)
    mask = model.draw_mask(2, torch.Generator().manual_seed(0))
    rebuilt = model.rebuild(features, mask)
    masks = stage_masks(mask, [feature.shape[-2:] for feature in features])
    for feature, hidden in zip(rebuilt, masks, strict=True):
        hidden = hidden.expand_as(feature)
        # Visible positions depend on the encoder directly, hidden ones through the embedding alone.
        for part in (feature[~hidden], feature[hidden]):
            (gradient,) = torch.autograd.grad(part.square().sum(), weight, retain_graph=True)
            assert gradient.abs().sum() > 0


def test_the_loss_is_averaged_over_all_pixels():
    logits, labels = torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 16, 16))
    labels[0, :8] = 255
    weights = torch.rand(2, 16, 16)
    upsampled = F.interpolate(logits, size=(16, 16), mode="bilinear", align_corners=False)
    valid = labels != 255
    log_probabilities = upsampled.log_softmax(1)
    picked = log_probabilities.gather(1, labels.clamp(max=4).unsqueeze(1)).squeeze(1)
    expected = -(picked * weights * valid).sum() / labels.numel()
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights, 255), expected)
    torch.testing.assert_close(
        weighted_cross_entropy(logits, labels, None, 255), -(picked * valid).sum() / labels.numel()
    )


def test_the_loss_of_hrda_is_the_references(monkeypatch):
    manifest, recorded = golden("algo_hrda_fusion")
    model, box = tiny_model("hrda"), DetailBox(*manifest["hr_crop_box"])
    logits = HrdaLogits(recorded["train.fused"], recorded["train.hr"], box)
    monkeypatch.setattr(model, "decode_with_detail", lambda features: logits)
    losses = manifest["train_losses"]
    loss = model.segmentation_loss(None, recorded["label"].squeeze(1).long(), recorded["seg_weight"])
    assert loss.item() == pytest.approx(losses["loss_seg"] + losses["hr.loss_seg"], rel=1e-5)
