from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.compilation import compile_networks
from mfm_hf.uda.trainer import UdaTrainer
from tests.tiny_models import tiny_model
from tests.uda.test_accumulation import batches

SIZE = (32, 48)
OPTIONS = {"mfm": True, "pseudo_label_threshold": 0.0}


class CountingBackend:
    """Runs graphs as they were captured, which is quick, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    """Let every test begin without graphs, and put PyTorch's limit back."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=torch._dynamo.config.recompile_limit):
        yield
    torch.compiler.reset()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CountingBackend:
    """What `--compile` compiles with."""
    backend = CountingBackend()
    monkeypatch.setattr("mfm_hf.uda.adaptation_step.compile_networks", partial(compile_networks, backend=backend))
    return backend


def losses_of(trainer: UdaTrainer, number: int = 2) -> list[dict[str, float]]:
    steps = [trainer.training_step(*batches(trainer.recipe.crop_size, number=2)) for _ in range(number)]
    return [{name: loss.item() for name, loss in losses.items()} for losses in steps]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("segformer", {"recipe": "dacs", "gradient_checkpointing": True}),
        ("daformer", {"recipe": "daformer"}),
        ("deeplabv2", {"recipe": "dacs", "mfm_view": "source", "mfm_batch_norm": "batch_no_update"}),
        ("hrda", {"recipe": "mic", "crop_size": [64, 64]}),
    ],
)
def test_losses_are_those_without(model, options, make_trainer, backend):
    options = {**OPTIONS, **options}
    expected = losses_of(make_trainer(model, **options))
    trainer = make_trainer(model, compile=True, **options)
    names = list(trainer.student.state_dict())
    compiled = losses_of(trainer, number=1)
    graphs = backend.graphs
    compiled += losses_of(trainer, number=1)
    assert backend.graphs == graphs > 4  # all of them at the first step
    for losses, values in zip(compiled, expected, strict=True):
        assert losses == pytest.approx(values, rel=1e-6)
        assert sum(losses.values()) > losses["source"] > 0  # the other terms count
    assert list(trainer.student.state_dict()) == names == list(tiny_model(model).state_dict())


def test_resumed_equals_uninterrupted(make_trainer, backend, tmp_path):
    make_trainer(mfm=True, compile=True, save_steps=2).train()
    assert backend.graphs > 4
    checkpoint = str(tmp_path / "run/checkpoint-2")
    make_trainer(
        mfm=True, compile=True, save_steps=2, output_dir=str(tmp_path / "resumed"), resume_from_checkpoint=checkpoint
    ).train()
    for name in ("student", "teacher", "optimizer"):
        straight, resumed = (
            load_file(tmp_path / run / f"checkpoint-4/{name}.safetensors") for run in ("run", "resumed")
        )
        assert straight.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_what_is_exported_and_evaluated_is_not_compiled(make_trainer, backend):
    adaptation: AdaptationStep = make_trainer(mfm=True, compile=True).adaptation
    graphs, images = backend.graphs, torch.zeros(1, 3, *SIZE)
    adaptation.student.to_inference()(images)
    adaptation.teacher.model(images)
    assert backend.graphs == graphs
    adaptation.teacher(images)
    adaptation.student.encode(images)
    assert backend.graphs == graphs + 2


def test_a_backend_that_does_not_work_is_told_in_a_line():
    def no_compiler(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        raise FileNotFoundError("no g++ here")

    with pytest.raises(
        ValueError, match=r"--compile .* needs, a C\+\+ compiler such as g\+\+, .*no g\+\+ here"
    ) as caught:
        compile_networks(tiny_model(), None, backend=no_compiler)
    assert "\n" not in str(caught.value)


def test_a_resnet_that_is_computed_again_is_refused(make_trainer):
    with pytest.raises(ValueError, match="a ResNet with --gradient_checkpointing: leave one of them out"):
        make_trainer("deeplabv2", compile=True, gradient_checkpointing=True)
