"""Measure a network on a domain."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from mfm_hf.data.domain import Domain, Example
from mfm_hf.evaluation.inference import batches, check_classes, decode_ahead, eval_mode, predict_classes, stack
from mfm_hf.evaluation.mean_iou import MeanIoU
from mfm_hf.models.sliding_window import SlidingWindow

OnBatch = Callable[[Sequence[Example], Tensor], None]


def evaluate_model(
    model: PreTrainedModel,
    domain: Domain,
    *,
    batch_size: int = 4,
    accelerator: Accelerator | None = None,
    device: torch.device | str | None = None,
    limit: int | None = None,
    window: SlidingWindow | None = None,
    eval_classes: Sequence[str] | None = None,
    num_workers: int = 2,
    progress: bool = True,
    on_batch: OnBatch | None = None,
) -> dict[str, Any]:
    """Score a network on the labelled images of a domain.

    The network is in eval mode and in the precision of its weights. Its logits are brought to the size of the image
    that it saw and then to that of the label, bilinearly, before the argmax; without flips or several scales (as
    `test_cfg` of lhoyer/MIC). So where `domain` is `resized`, the image is scaled and the label is not. Every process
    of `accelerator` takes its share of the images and returns the scores of all.

    Args:
        model: An inference model, not wrapped for training by Accelerate. Its modes are left as they were.
        domain: What to measure on.
        batch_size: Images per forward pass; neighbours of different sizes do not share one.
        accelerator: Where several processes measure together.
        device: Where to measure; the model is moved there. Default: where the model is.
        limit: Number of images to use, over all processes. Default: all.
        window: Windows in which the network sees an image. Default: what its `forward` does, which is the whole image
            except for HRDA, which brings windows of its own.
        eval_classes: Names of the classes that the means are taken over. Default: all.
        num_workers: Threads that decode images ahead of the network; 0 decodes in between.
        progress: Whether the main process shows a progress bar.
        on_batch: Called after every batch with its examples and its predictions: int64 (batch, height, width).

    Returns:
        The scores of `MeanIoU.compute`, `eval_classes` (None: all), `num_images` and `seconds`.

    Raises:
        BadExampleError: If an example cannot be used. A score of some of the images would not be the domain's.
        ValueError: If the domain has no labels, its classes are not those of the model, or it lacks one of
            `eval_classes`.
    """
    _check_request(model, domain, batch_size, limit, num_workers)
    rank, num_processes = (accelerator.process_index, accelerator.num_processes) if accelerator is not None else (0, 1)
    if device is not None:
        model.to(device)

    start = time.perf_counter()
    metric = MeanIoU(domain.classes.id2label, ignore_index=domain.ignore_index, mean_over=eval_classes)
    rows = islice(domain.rows, rank, limit, num_processes)
    num_rows = len(range(rank, min(domain.num_rows, limit or domain.num_rows), num_processes))
    bar = tqdm(total=num_rows, desc=f"evaluate on {domain.name}", unit="image", disable=not progress or rank > 0)
    with bar, eval_mode(model), torch.inference_mode():
        for examples in batches(decode_ahead(domain.decode, rows, num_workers), batch_size):
            labels = stack([cast(np.ndarray, example.label) for example in examples], model.device)
            predictions = predict_classes(model, examples, labels.shape[-2:], window)
            metric.add_batch(predictions=predictions, references=labels)
            if on_batch is not None:
                on_batch(examples, predictions)
            bar.update(len(examples))
    if accelerator is not None:
        metric.reduce(accelerator)
    num_images = len(metric)
    return metric.compute() | {
        "eval_classes": None if eval_classes is None else list(eval_classes),
        "num_images": num_images,
        "seconds": time.perf_counter() - start,
    }


def _check_request(
    model: PreTrainedModel, domain: Domain, batch_size: int, limit: int | None, num_workers: int
) -> None:
    if not domain.labelled:
        raise ValueError(f"{domain.name} has no labels to measure against: choose a labelled domain")
    check_classes(model, domain)
    for name, value, least in (("batch_size", batch_size, 1), ("limit", limit, 1), ("num_workers", num_workers, 0)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
