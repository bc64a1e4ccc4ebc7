"""What every segmenter must be able to do, whatever its architecture."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoModelForSemanticSegmentation,
    PreTrainedModel,
    SegformerImageProcessorPil,
    pipeline,
    set_seed,
)

from mfm_hf.models.compat import enable_activation_checkpointing
from tests.image_processors import needs_image_processor
from tests.models.segmenter_tester import NUM_LABELS, SEGMENTERS, Segmenter, images, labels


@pytest.fixture(params=SEGMENTERS)
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    return SEGMENTERS[request.param]


@pytest.fixture
def model(segmenter: Segmenter) -> PreTrainedModel:
    set_seed(0)
    return liven(segmenter.build()).eval()


def liven(model: PreTrainedModel) -> PreTrainedModel:
    """Give the norms statistics as of a trained network, and the classifiers weights that say something."""
    for name, parameter in model.named_parameters():
        if "classifier" in name or "branches" in name:
            nn.init.normal_(parameter, std=0.2)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


@torch.no_grad()
def logits_of(model: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    return model(pixel_values).logits


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a config decides, without what the library notes down on loading."""
    return {
        name: settings(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in ("_name_or_path", "dtype")
    }


def assert_close(ours: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [(64, 96), (65, 83), (61, 59)])
def test_logits_have_the_decoders_stride_at_any_size(
    model: PreTrainedModel, segmenter: Segmenter, size: tuple[int, int]
) -> None:
    rows, columns = (math.ceil(length / segmenter.stride) for length in size)
    assert logits_of(model, images(*size)).shape == (2, NUM_LABELS, rows, columns)


def test_training_reaches_every_parameter(model: PreTrainedModel) -> None:
    loss = model.train()(images(), labels=labels()).loss
    loss.backward()
    assert 0 < loss.item() < 20
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_ignored_pixels_do_not_count(model: PreTrainedModel) -> None:
    some = labels()
    others = torch.where(some == 255, 255, (some + 1) % NUM_LABELS)
    assert model(images(), labels=torch.full_like(some, 255)).loss.isnan()
    assert model(images(), labels=some).loss != model(images(), labels=others).loss


def test_hidden_states_are_the_stages(model: PreTrainedModel, segmenter: Segmenter) -> None:
    assert model(images()).hidden_states is None
    hidden_states = model(images(), output_hidden_states=True).hidden_states
    sizes = [tuple(state.shape[-2:]) for state in hidden_states]
    assert sizes == [(math.ceil(64 / stride), math.ceil(96 / stride)) for stride in segmenter.hidden_strides]


def test_save_and_load_through_the_auto_class(model: PreTrainedModel, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not any(info.values()), info
    assert settings(loaded.config.to_dict()) == settings(model.config.to_dict())
    assert_close(logits_of(loaded, images()), logits_of(model, images()), 0.0)


def test_half_precision(model: PreTrainedModel) -> None:
    exact = logits_of(model, images())
    half = logits_of(model.to(torch.bfloat16), images().to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_compiles_without_a_graph_break(model: PreTrainedModel) -> None:
    expected = logits_of(model, images())  # called before: the library puts its hooks in place on the first call
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert_close(logits_of(compiled, images()), expected)


def test_exports(model: PreTrainedModel) -> None:
    exported = torch.export.export(model, (), {"pixel_values": images()}).module()
    assert_close(exported(pixel_values=images()).logits, logits_of(model, images()))


def test_activation_checkpointing_changes_neither_gradients_nor_statistics(segmenter: Segmenter) -> None:
    def train(checkpointing: bool) -> dict[str, torch.Tensor]:
        set_seed(0)
        model = segmenter.build().train()
        if checkpointing:
            enable_activation_checkpointing(model)
        model(images(), labels=labels()).loss.backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        return {**gradients, **dict(model.named_buffers())}

    with_checkpointing, without = train(True), train(False)
    for name, expected in without.items():
        torch.testing.assert_close(with_checkpointing[name], expected, msg=lambda text, name=name: f"{name}: {text}")


def test_activation_checkpointing_computes_again(model: PreTrainedModel) -> None:
    calls = []
    for layer in model.base_model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda *_: calls.append(None))
    enable_activation_checkpointing(model.train())
    loss = model(images(), labels=labels()).loss
    forward_calls = len(calls)
    loss.backward()
    assert len(calls) > forward_calls


@pytest.mark.parametrize(
    "segmenter", [name for name, entry in SEGMENTERS.items() if entry.has_attention], indirect=True
)
def test_attention_implementations_agree(model: PreTrainedModel, segmenter: Segmenter) -> None:
    assert model.config._attn_implementation == "sdpa"
    fused = logits_of(model, images())
    model.set_attn_implementation("eager")
    assert_close(logits_of(model, images()), fused)


@needs_image_processor
def test_pipeline_returns_masks_of_the_images_size(model: PreTrainedModel) -> None:
    segment = pipeline("image-segmentation", model=model, image_processor=SegformerImageProcessorPil(do_resize=False))
    segments = segment(Image.effect_noise((90, 70), 90).convert("RGB"))
    assert {segment["label"] for segment in segments} <= set(model.config.label2id)
    assert all(segment["mask"].size == (90, 70) for segment in segments)


def test_images_of_a_batch_do_not_influence_each_other(model: PreTrainedModel) -> None:
    together = logits_of(model, images())
    assert_close(torch.cat([logits_of(model, images()[:1]), logits_of(model, images()[1:])]), together)


def test_a_seed_decides_the_initial_weights(segmenter: Segmenter) -> None:
    def weights(seed: int) -> torch.Tensor:
        set_seed(seed)
        return nn.utils.parameters_to_vector(segmenter.build().parameters())

    assert weights(0).equal(weights(0))
    assert not weights(0).equal(weights(1))
