"""The speed of inference: precision, batches, windows, compiling, and what comes after. And that MFM costs nothing."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from mfm_hf.benchmarking.machine import describe_machine, timed
from mfm_hf.benchmarking.operations import count_flops
from mfm_hf.benchmarking.setup import random_network, with_mfm
from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX
from mfm_hf.data.domain import Example
from mfm_hf.evaluation.acceleration import PRECISIONS, Precision, compiled
from mfm_hf.evaluation.inference import predict_classes, predict_logits
from mfm_hf.evaluation.mean_iou import MeanIoU
from mfm_hf.models.sliding_window import Blending, SlidingWindow
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.training_args import UdaTrainingArguments

# float16 is as fast as bfloat16 on GPUs, and slower on most processors.
MEASURED: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Way:
    """One way to segment images.

    Attributes:
        precision: Of weights and computation.
        batch_size: Images at once.
        window: The windows that slide over an image; None for the whole image.
        compiled: Whether the network is compiled.
    """

    precision: Precision
    batch_size: int
    window: SlidingWindow | None = None
    compiled: bool = False


@dataclass(frozen=True)
class InferenceSpeed:
    """How fast a network segments images in one way.

    Attributes:
        precision: Of weights and computation.
        compiled: Whether the network is compiled.
        batch_size: Images at once.
        window: Side of the square windows that slide over an image by two thirds of it; None for the whole image.
        window_batch_size: Windows at once.
        window_blending: How the windows are merged.
        seconds_per_batch: Median, of the network alone: logits at its own stride, or at the image's size of windows.
        images_per_second: Of the same.
    """

    precision: str
    compiled: bool
    batch_size: int
    window: int | None
    window_batch_size: int
    window_blending: Blending | None
    seconds_per_batch: float
    images_per_second: float

    @classmethod
    def of(cls, way: Way, seconds: float) -> InferenceSpeed:
        """Return the speed of a way that takes so many seconds for a batch."""
        side, at_once, blending = None, 1, None
        if way.window is not None:
            side, at_once, blending = way.window.size[0], way.window.batch_size, way.window.blending
        return cls(
            way.precision, way.compiled, way.batch_size, side, at_once, blending, seconds, way.batch_size / seconds
        )


def measure_inference(
    args: UdaTrainingArguments,
    image_size: tuple[int, int],
    *,
    batch_sizes: Sequence[int],
    window: int | None,
    repeats: int,
) -> dict[str, Any]:
    """Measure a network in turns: every precision, with every number of images at once, whole and in windows.

    Args:
        args: Describe the network; with `compile`, the first number of images is also measured compiled.
        image_size: Height and width in pixels.
        batch_sizes: Numbers of images at once; in windows, numbers of windows of one image. The first of these is also
            blended by Gaussian weights.
        window: Side of the windows in pixels; None for whole images alone.
        repeats: Measured times of each; one more warms up.

    Returns:
        `speeds`, the fields of each `InferenceSpeed`; `compile_seconds`, what compiling adds to the first batch, by
        precision; `evaluation`, the seconds that an image of this size takes; and `mfm`, what the network costs that
        was trained with and without it.
    """
    accelerator = make_accelerator(args)
    device = accelerator.device
    student, _ = random_network(args)
    model = student.to_inference().to(device)
    ways = _ways(batch_sizes, window, args.compile)
    kinds = {(way.precision, way.compiled) for way in ways}
    models = {kind: copy.deepcopy(model).to(PRECISIONS[kind[0]]) for kind in kinds}
    jobs = [
        partial(predict_logits, models[way.precision, way.compiled], _examples(way.batch_size, image_size), way.window)
        for way in ways
    ]
    with torch.inference_mode(), ExitStack() as stack:
        for (_, is_compiled), one in models.items():
            if is_compiled:
                stack.enter_context(compiled(one))
        first = [timed(job, device)[1].wall if way.compiled else 0.0 for way, job in zip(ways, jobs, strict=True)]
        seconds = _medians(jobs, repeats, device)
        evaluation = _evaluation_parts(model, image_size, repeats, device)
        mfm = _cost_of_mfm(args, image_size, repeats, device)
    machine = describe_machine(device, tuple(PRECISIONS[name] for name in MEASURED))
    return {
        "machine": asdict(machine),
        "arguments": args.changed(),
        "image_size": list(image_size),
        "speeds": [asdict(InferenceSpeed.of(way, taken)) for way, taken in zip(ways, seconds, strict=True)],
        "compile_seconds": {
            way.precision: start - taken
            for way, start, taken in zip(ways, first, seconds, strict=True)
            if way.compiled and way.window is None
        },
        "evaluation": evaluation,
        "mfm": mfm,
    }


def _ways(batch_sizes: Sequence[int], window: int | None, compile: bool) -> list[Way]:
    ways = []
    for precision in MEASURED:
        whole = [Way(precision, batch_size) for batch_size in batch_sizes]
        in_windows = []
        if window is not None:
            size, stride = (window, window), (window * 2 // 3, window * 2 // 3)
            sliding = [SlidingWindow(size, stride, batch_size) for batch_size in batch_sizes]
            sliding.insert(1, replace(sliding[0], blending="gaussian"))
            in_windows = [Way(precision, 1, one) for one in sliding]
        ways += whole + in_windows
        if compile:
            ways += [replace(way, compiled=True) for way in whole[:1] + in_windows[:1]]
    return ways


def _examples(number: int, image_size: tuple[int, int]) -> list[Example]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*image_size, 3), dtype=np.uint8)
    label = rng.integers(0, len(CITYSCAPES.names), image_size, dtype=np.uint8)
    return [Example("noise", image, label)] * number


def _medians(jobs: Sequence[Callable[[], object]], repeats: int, device: torch.device) -> list[float]:
    """Return the median seconds of each job, all taking turns. The first turn warms up."""
    turns = [[timed(job, device)[1].wall for job in jobs] for _ in range(repeats + 1)][1:]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def _evaluation_parts(
    model: PreTrainedModel, image_size: tuple[int, int], repeats: int, device: torch.device
) -> dict[str, float]:
    """The seconds of an evaluated image by part: the network, logits to classes at full size, and the metric."""
    examples = _examples(1, image_size)
    metric = MeanIoU(CITYSCAPES.id2label, ignore_index=IGNORE_INDEX)
    labels = torch.from_numpy(np.stack([example.label for example in examples if example.label is not None])).to(device)
    predictions = predict_classes(model, examples, image_size)
    network, both, scores = _medians(
        [
            lambda: predict_logits(model, examples),
            lambda: predict_classes(model, examples, image_size),
            lambda: metric.add_batch(predictions=predictions, references=labels),
        ],
        repeats,
        device,
    )
    rest = max(both - network, 0.0) + scores
    return {
        "network": network,
        "classes_at_full_size": both - network,
        "metric": scores,
        "share_of_network": rest / network,
    }


def _cost_of_mfm(
    args: UdaTrainingArguments, image_size: tuple[int, int], repeats: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Parameters, operations and latency of what is exported with and without MFM."""
    networks = {
        name: random_network(with_mfm(args, mfm))[0].to_inference().to(device)
        for name, mfm in (("with MFM", True), ("without MFM", False))
    }
    example = _examples(1, image_size)
    jobs = {name: lambda one=one: predict_logits(one, example) for name, one in networks.items()}
    latencies = _medians(list(jobs.values()), repeats, device)
    return {
        name: {
            "parameters": sum(parameter.numel() for parameter in networks[name].parameters()),
            "flops": count_flops(job),
            "seconds": latency,
        }
        for (name, job), latency in zip(jobs.items(), latencies, strict=True)
    }
