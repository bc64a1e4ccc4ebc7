"""Faster inference: in another precision, and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from mfm_hf.evaluation.inference import eval_mode

Precision = Literal["float32", "bfloat16", "float16"]

PRECISIONS: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Height and width of an image that every network takes.
_SIDE = 64


def check_precision(precision: Precision, device: torch.device) -> None:
    """Check that a device computes in a precision by itself, and not through another, many times slower.

    Raises:
        ValueError: If it does not.
    """
    if precision == "float16" and device.type == "cpu":
        raise ValueError("float16 is slow on a processor: take --precision bfloat16 or float32")
    if (
        precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ValueError(f"{torch.cuda.get_device_name(device)} does not compute in bfloat16: take --precision float16")


def check_compiler(device: torch.device, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile a small function, rather than fail once a network is loaded.

    Raises:
        ValueError: If it cannot be compiled on this machine.
    """
    # This import takes seconds.
    from torch._dynamo.exc import TorchDynamoException

    try:
        torch.compile(torch.neg, backend=backend, fullgraph=True, dynamic=False)(torch.zeros(8, device=device))
    except TorchDynamoException as error:
        needed = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler such as g++"
        raise ValueError(
            f"--compile does not work here: install what it needs, {needed}, or leave it away ({_reason(error)})"
        ) from error


@contextmanager
def compiled(model: PreTrainedModel, backend: str | Callable[..., Any] = "inductor") -> Iterator[None]:
    """Let the calls of a network inside be compiled, as one graph for every shape of its input.

    The first call of a shape waits for the compiler. Afterwards the network is as it was.

    Args:
        model: The network, in eval mode.
        backend: What `torch.compile` hands the graph to.

    Raises:
        ValueError: If the network cannot be compiled, or meets more shapes than PyTorch compiles it for.
    """
    # This import takes seconds.
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    put_hooks_in_place(model)
    model.forward = torch.compile(model.forward, fullgraph=True, dynamic=False, backend=backend)
    try:
        yield
    except FailOnRecompileLimitHit as error:
        raise ValueError(
            "the network was compiled for as many shapes of images as PyTorch allows, and here is one more: "
            "give a --window_size below them, a --batch_size of 1, or leave --compile away"
        ) from error
    except TorchDynamoException as error:
        raise ValueError(f"the network cannot be compiled, so leave --compile away: {_reason(error)}") from error
    finally:
        del model.forward


@torch.no_grad()
def put_hooks_in_place(model: PreTrainedModel) -> None:
    """Call a network once, since transformers sets hooks at the first call, under a lock that cannot be compiled."""
    images = torch.zeros(1, 3, _SIDE, _SIDE, device=model.device, dtype=model.dtype)
    with eval_mode(model):
        model(pixel_values=images, output_hidden_states=True)


def _reason(error: Exception) -> str:
    """Return what went wrong in one line, without PyTorch's advice on how to find out more."""
    return " ".join(str(error).strip().split("\n\n")[0].split())
