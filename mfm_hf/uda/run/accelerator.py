"""The accelerator of a run: device, precision, processes, trackers."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list

from mfm_hf.cpu_allocator import keep_freed_memory
from mfm_hf.uda.training_args import UdaTrainingArguments

T = TypeVar("T")


def make_accelerator(args: UdaTrainingArguments) -> Accelerator:
    """Make the accelerator that the arguments ask for; on a CPU the process from now on keeps the memory that it frees.

    Raises:
        ValueError: If a tracker of `--report_to` is not installed.
    """
    available = {"all", *(tracker.value for tracker in get_available_trackers())}
    missing = [name for name in args.report_to or () if name not in available]
    if missing:
        raise ValueError(f"--report_to {missing[0]}: no such tracker is installed; try pip install {missing[0]}")
    # The last pass of a step may then miss the Rebuilder, the encoder or the decoder, whose gradients DDP waits for.
    misses_some = args.mfm and (
        args.mfm_view == "source"
        or args.mfm_gradient != "both"
        or args.mfm_objective != "classes"
        or args.mfm_start_step > 0
    )
    accelerator = Accelerator(
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=misses_some)],
        mixed_precision=args.mixed_precision,
        cpu=args.use_cpu,
        log_with=args.report_to,
        project_dir=args.output_dir,
    )
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def describe_hardware(accelerator: Accelerator) -> str:
    """Return how many of which device the processes compute with, as in `2 x NVIDIA H100`."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{accelerator.num_processes} x {name}"


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were held: on a GPU by PyTorch, on the CPU by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def flat_config(args: UdaTrainingArguments) -> dict[str, Any]:
    """Return the arguments as trackers take them: TensorBoard, for one, refuses lists and None."""
    return {name: value if isinstance(value, (int, float, str)) else str(value) for name, value in vars(args).items()}


def from_main_process(accelerator: Accelerator, act: Callable[[], T]) -> T:
    """Let the main process do something, and return in every process what came of it.

    Raises:
        ValueError, OSError: What it raises in the main process; the others then end with exit code 2 and leave it to
            the main process to say why.
    """
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = act()
        except (ValueError, OSError) as error:
            outcome[1] = error
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1] if accelerator.is_main_process else SystemExit(2)
    return outcome[0]
