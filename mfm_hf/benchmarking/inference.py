"""The speed of inference: precision, batches, windows, and what comes after the network. And that MFM costs nothing."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from mfm_hf.benchmarking.machine import describe_machine, timed
from mfm_hf.benchmarking.operations import count_flops
from mfm_hf.benchmarking.setup import random_network, with_mfm
from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX
from mfm_hf.data.domain import Example
from mfm_hf.evaluation.inference import predict_classes, predict_logits
from mfm_hf.evaluation.mean_iou import MeanIoU
from mfm_hf.models.sliding_window import SlidingWindow
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.training_args import UdaTrainingArguments

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class InferenceSpeed:
    """How fast a network segments images in one way.

    Attributes:
        precision: Of weights and computation.
        batch_size: Images at once.
        window: Side of the square windows that slide over an image by two thirds of it; None for the whole image.
        window_batch_size: Windows at once.
        seconds_per_batch: Median, of the network alone: logits at its own stride, or at the image's size of windows.
        images_per_second: Of the same.
    """

    precision: str
    batch_size: int
    window: int | None
    window_batch_size: int
    seconds_per_batch: float
    images_per_second: float


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
        args: Describe the network.
        image_size: Height and width in pixels.
        batch_sizes: Numbers of images at once; in windows, numbers of windows of one image.
        window: Side of the windows in pixels; None for whole images alone.
        repeats: Measured times of each; one more warms up.

    Returns:
        `speeds`, the fields of each `InferenceSpeed`; `evaluation`, the seconds that an image of this size takes; and
        `mfm`, what the network costs that was trained with and without it.
    """
    accelerator = make_accelerator(args)
    device = accelerator.device
    student, _ = random_network(args)
    model = student.to_inference().to(device)
    ways: list[tuple[int, SlidingWindow | None]] = [(batch, None) for batch in batch_sizes]
    if window is not None:
        size, stride = (window, window), (window * 2 // 3, window * 2 // 3)
        ways += [(1, SlidingWindow(size, stride, batch)) for batch in batch_sizes]
    models = {name: copy.deepcopy(model).to(dtype) for name, dtype in PRECISIONS.items()}
    jobs = {
        (name, batch, sliding): lambda one=one, batch=batch, sliding=sliding: predict_logits(
            one, _examples(batch, image_size), sliding
        )
        for name, one in models.items()
        for batch, sliding in ways
    }
    with torch.inference_mode():
        seconds = _medians(list(jobs.values()), repeats, device)
        speeds = [
            InferenceSpeed(
                name,
                batch,
                None if sliding is None else sliding.size[0],
                1 if sliding is None else sliding.batch_size,
                taken,
                batch / taken,
            )
            for (name, batch, sliding), taken in zip(jobs, seconds, strict=True)
        ]
        evaluation = _evaluation_parts(model, image_size, repeats, device)
        mfm = _cost_of_mfm(args, image_size, repeats, device)
    machine = describe_machine(device, tuple(PRECISIONS.values()))
    return {
        "machine": asdict(machine),
        "arguments": args.changed(),
        "image_size": list(image_size),
        "speeds": [asdict(speed) for speed in speeds],
        "evaluation": evaluation,
        "mfm": mfm,
    }


def _examples(number: int, image_size: tuple[int, int]) -> list[Example]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*image_size, 3), dtype=np.uint8)
    label = rng.integers(0, len(CITYSCAPES.names), image_size, dtype=np.uint8)
    return [Example("noise", image, label)] * number


def _medians(jobs: Sequence[Callable[[], object]], repeats: int, device: torch.device) -> list[float]:
    """The median seconds of each job, all taking turns. The first turn warms up."""
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
