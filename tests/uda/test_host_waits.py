"""How often the host waits for the device in a step: once, for the guard, which decides whether the step is taken.

The device is PyTorch's `meta`, whose tensors have shapes and no numbers. As with a GPU, its tensors do not mix with
those of the CPU, and what reads a number of it, or brings numbers to it, can be seen.
"""

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch
from accelerate import Accelerator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mfm_hf.benchmarking.setup import make_inputs
from mfm_hf.uda import adaptation_step
from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.optimization import parameter_groups
from mfm_hf.uda.resolution import resolve_recipe
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.tiny_models import tiny_model

DEVICE = torch.device("meta")
# Their results, or the shapes of them, depend on values, for which a GPU is waited for.
READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2"}


class Waits(TorchDispatchMode):
    """Notes what makes the host wait, and the line of ours that asks for it. Numbers that are read are 1."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func._schema.name
        devices = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        if name in READS and DEVICE in devices:
            self.note(name)
            return torch.ones(()).item() if name == "aten::_local_scalar_dense" else func(*args, **kwargs)
        if name == "aten::_to_copy" and kwargs.get("device", DEVICE) not in devices and not kwargs.get("non_blocking"):
            self.note(name)
        if name == "aten::copy_" and len(devices) > 1 and not args[2:]:
            self.note(name)
        return func(*args, **kwargs)

    def note(self, name: str) -> None:
        ours = [frame for frame in traceback.extract_stack() if "/mfm_hf/" in frame.filename]
        self.found.append((name, ours[-1].line if ours else "PyTorch"))


class TensorsOfNumbers(TorchFunctionMode):
    """Notes the tensors that are made of Python's numbers on the device itself, which waits for it."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.tensor, torch.as_tensor) and (kwargs or {}).get("device") == DEVICE:
            self.waits.note("torch.tensor")
        return func(*args, **(kwargs or {}))


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    with ExitStack() as stack:
        waits = stack.enter_context(Waits())
        stack.enter_context(TensorsOfNumbers(waits))
        yield waits.found


@pytest.mark.parametrize(
    "make", [torch.nonzero, torch.Tensor.item, torch.Tensor.cpu, lambda x: x.copy_(torch.ones(()))]
)
def test_waits_are_seen(make):
    tensor = torch.ones((), device=DEVICE)
    with watched() as found:
        try:
            make(tensor)
        except (RuntimeError, NotImplementedError):  # of a device without numbers
            found.append(("refused", ""))
    assert found


def test_tensors_of_numbers_are_seen():
    with watched() as found:
        torch.tensor([1.0, 2.0], device=DEVICE)
        torch.zeros(3, dtype=torch.int64).to(DEVICE)
        torch.zeros(3, dtype=torch.int64).to(DEVICE, non_blocking=True)
    assert [name for name, _ in found] == ["torch.tensor", "aten::_to_copy"]


@pytest.mark.parametrize(("recipe_name", "model"), [("dacs", "deeplabv2"), ("daformer", "daformer"), ("mic", "hrda")])
def test_the_guard_alone_waits(recipe_name, model, monkeypatch, tmp_path):
    settings = {"backbone": "stand-in", "mfm": True, "crop_size": [64], "use_cpu": True, "output_dir": str(tmp_path)}
    args = UdaTrainingArguments(recipe=recipe_name, model=model, **settings)
    recipe, student = resolve_recipe(args), tiny_model(model)
    # What PyTorch's fused kernel does on a GPU, `meta` cannot.
    monkeypatch.setattr(adaptation_step, "make_optimizer", lambda *given: torch.optim.SGD(parameter_groups(*given)))
    monkeypatch.setattr(Accelerator, "device", DEVICE)
    step = AdaptationStep(student, recipe, args, Accelerator(cpu=True))
    (given,) = make_inputs(recipe, student, 1, seed=0)
    with watched() as found:
        step(given.source, given.target)
    assert [name for name, _ in found] == ["aten::_local_scalar_dense"], found
    assert "isfinite" in found[0][1]
