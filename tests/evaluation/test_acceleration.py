from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from transformers import PreTrainedModel, SegformerConfig
from transformers.modeling_outputs import SemanticSegmenterOutput

from mfm_hf.evaluation.acceleration import PRECISIONS, check_compiler, check_precision, compiled
from mfm_hf.evaluation.inference import segment
from mfm_hf.models.sliding_window import SlidingWindow
from tests.tiny_models import tiny_model

PIXELS = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))


class Toy(PreTrainedModel):
    """The smallest network that segments, since compiling takes long."""

    config_class = SegformerConfig

    def __init__(self) -> None:
        super().__init__(SegformerConfig())
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> SemanticSegmenterOutput:
        return SemanticSegmenterOutput(logits=self.scale * pixel_values)


def broken(graph: fx.GraphModule, inputs: list[Tensor]) -> Any:
    raise RuntimeError("no compiler was found")


@torch.inference_mode()
def test_a_compiled_network_finds_the_same_and_is_itself_afterwards() -> None:
    """A real one, which was never called before, compiled once for all windows of an image."""
    model, graphs = tiny_model(rebuilder=None).to_inference().eval(), []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    window = SlidingWindow((32, 32), (16, 16))
    with compiled(model, backend):
        found = segment(model, PIXELS, window)
    assert len(graphs) == 1
    torch.testing.assert_close(found, segment(model, PIXELS, window))
    assert len(graphs) == 1


@torch.inference_mode()
def test_what_keeps_a_network_from_being_compiled_is_told() -> None:
    toy = Toy()
    torch._dynamo.reset()
    reason = (
        "cannot be compiled, so leave --compile away: backend='broken' raised: RuntimeError: no compiler was found$"
    )
    with pytest.raises(ValueError, match=reason), compiled(toy, broken):
        segment(toy, PIXELS)


def test_a_machine_without_a_compiler_is_told_what_to_install() -> None:
    torch._dynamo.reset()
    with pytest.raises(ValueError, match=r"install what it needs, a C\+\+ compiler .*RuntimeError: no compiler"):
        check_compiler(torch.device("cpu"), broken)
    torch._dynamo.reset()
    check_compiler(torch.device("cpu"), "eager")


@torch.inference_mode()
def test_images_of_too_many_shapes_are_told() -> None:
    """PyTorch would go on without compiling."""
    toy = Toy()
    torch._dynamo.reset()
    window = SlidingWindow((32, 32), (32, 32))
    told = pytest.raises(ValueError, match="here is one more: give a --window_size")
    with torch._dynamo.config.patch(recompile_limit=1), told, compiled(toy, "eager"):
        segment(toy, PIXELS, window) + segment(toy, PIXELS)


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_logits_are_float32_in_every_precision(precision: str) -> None:
    model = tiny_model(rebuilder=None).to_inference().eval()
    expected = segment(model, PIXELS)
    dtype = PRECISIONS[precision]
    logits = segment(model.to(dtype), PIXELS.to(dtype))
    assert logits.dtype == torch.float32
    error = (logits - expected).abs().max() / expected.abs().max()
    assert error == 0 if precision == "float32" else 0 < error < 10 * torch.finfo(dtype).eps


def test_float16_is_refused_on_a_processor() -> None:
    with pytest.raises(ValueError, match="slow on a processor: take --precision bfloat16"):
        check_precision("float16", torch.device("cpu"))


def test_a_gpu_that_does_not_compute_in_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old GPU")
    with pytest.raises(ValueError, match="an old GPU does not compute in bfloat16: take --precision float16"):
        check_precision("bfloat16", torch.device("cuda"))
    check_precision("float16", torch.device("cuda"))
    check_precision("bfloat16", torch.device("cpu"))
