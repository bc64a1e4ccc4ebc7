"""The options that say how a network sees images and computes, the same for every command that segments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, TypeVar

from mfm_hf.commands._parser import positive_int

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mfm_hf.models.sliding_window import SlidingWindow

Word = TypeVar("Word", bound=str)

_WHOLE: Literal["whole"] = "whole"


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of windows, `--precision`, `--compile` and `--device`."""
    parser.add_argument(
        "--window_size",
        nargs="+",
        metavar="PIXELS",
        help="height and width of windows that slide over the image, or: whole (default: whole; for HRDA its own)",
    )
    parser.add_argument(
        "--window_stride",
        nargs=2,
        type=positive_int,
        metavar="PIXELS",
        help="rows and columns between windows (default: half of them)",
    )
    parser.add_argument(
        "--window_batch_size", type=positive_int, default=1, metavar="N", help="windows per forward pass, of each image"
    )
    parser.add_argument(
        "--window_blending",
        choices=("uniform", "gaussian"),
        help="how windows are merged: all their pixels alike, or more of their middle (default: uniform)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the network's weights and computation",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network; the first image of each size waits for that, often for minutes",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")


def check_inference_options(args: argparse.Namespace) -> None:
    """Check what can be checked before a network is loaded.

    Raises:
        ValueError: If an option cannot be read, two of them do not go together, or the device cannot do it.
    """
    # These imports take seconds; `--help` does without.
    from mfm_hf.commands._checkpoint import usable_device
    from mfm_hf.evaluation.acceleration import check_compiler, check_precision
    from mfm_hf.evaluation.setting import check_window_options

    if two_numbers("window_size", args.window_size, _WHOLE) == _WHOLE:
        check_window_options(args.window_stride, args.window_blending)
    device = usable_device(args.device)
    check_precision(args.precision, device)
    if args.compile:
        check_compiler(device)


def prepare_network(args: argparse.Namespace, model: PreTrainedModel) -> SlidingWindow | None:
    """Bring a network to `--precision`, and return the windows in which it is to see images.

    On a CPU the process from now on keeps the memory that it frees.

    Raises:
        ValueError: If the options of windows do not fit the network.
    """
    from mfm_hf.cpu_allocator import keep_freed_memory
    from mfm_hf.evaluation.acceleration import PRECISIONS
    from mfm_hf.evaluation.setting import choose_window

    size = two_numbers("window_size", args.window_size, _WHOLE)
    window = choose_window(size, args.window_stride, args.window_batch_size, model, args.window_blending)
    model.to(PRECISIONS[args.precision])
    if model.device.type == "cpu":
        keep_freed_memory()
    return window


def compiled_if_asked(args: argparse.Namespace, model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let a network be compiled inside where `--compile` asks for it."""
    from mfm_hf.evaluation.acceleration import compiled

    return compiled(model) if args.compile else nullcontext()


def two_numbers(option: str, words: Sequence[str] | None, other: Word) -> tuple[int, int] | Word | None:
    """Read two numbers of pixels, or the one word that an option takes instead.

    Raises:
        ValueError: If it is neither.
    """
    match words:
        case None:
            return None
        case [word] if word == other:
            return other
        case [first, second] if first.isdecimal() and second.isdecimal() and int(first) > 0 and int(second) > 0:
            return int(first), int(second)
    raise ValueError(f"--{option} takes two numbers of pixels, or: {other}; not {' '.join(words)}")
