"""Measure a network on a domain."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from mfm_hf.data.domain import Domain, Example, Row
from mfm_hf.data.transforms import normalize
from mfm_hf.evaluation.mean_iou import MeanIoU

# How many examples each thread may be ahead of the network: enough to keep it busy, few enough to hold in memory.
_DECODED_AHEAD = 4

OnBatch = Callable[[Sequence[Example], Tensor], None]


def evaluate_model(
    model: PreTrainedModel,
    domain: Domain,
    *,
    batch_size: int = 4,
    accelerator: Accelerator | None = None,
    device: torch.device | str | None = None,
    limit: int | None = None,
    num_workers: int = 2,
    progress: bool = True,
    on_batch: OnBatch | None = None,
) -> dict[str, Any]:
    """Score a network on the labelled images of a domain.

    Whole images, the network in eval mode and in the precision of its weights; logits are brought to the size of the
    label by bilinear interpolation before the argmax, without flips or several scales (as `test_cfg` "whole" of
    lhoyer/MIC). Every process of `accelerator` takes its share of the images and returns the scores of all.

    Args:
        model: An inference model, not wrapped for training by Accelerate. Its modes are left as they were.
        domain: What to measure on.
        batch_size: Images per forward pass; neighbours of different sizes do not share one.
        accelerator: Where several processes measure together.
        device: Where to measure; the model is moved there. Default: where the model is.
        limit: Number of images to use, over all processes. Default: all.
        num_workers: Threads that decode images ahead of the network; 0 decodes in between.
        progress: Whether the main process shows a progress bar.
        on_batch: Called after every batch with its examples and its predictions: int64 (batch, height, width).

    Returns:
        The scores of `MeanIoU.compute`, `num_images` and `seconds`.

    Raises:
        BadExampleError: If an example cannot be used. A score of some of the images would not be the domain's.
        ValueError: If the domain has no labels, or its classes are not those of the model.
    """
    _check_request(model, domain, batch_size, limit, num_workers)
    rank, num_processes = (accelerator.process_index, accelerator.num_processes) if accelerator is not None else (0, 1)
    if device is not None:
        model.to(device)

    start = time.perf_counter()
    metric = MeanIoU(domain.classes.id2label, ignore_index=domain.ignore_index)
    rows = islice(domain.rows, rank, limit, num_processes)
    num_rows = len(range(rank, min(domain.num_rows, limit or domain.num_rows), num_processes))
    bar = tqdm(total=num_rows, desc=f"evaluate on {domain.name}", unit="image", disable=not progress or rank > 0)
    with bar, _eval_mode(model), torch.inference_mode():
        for examples in _batches(_decode_ahead(domain.decode, rows, num_workers), batch_size):
            labels = _stack([cast(np.ndarray, example.label) for example in examples], model.device)
            predictions = _predict(model, examples, labels.shape[-2:])
            metric.add_batch(predictions=predictions, references=labels)
            if on_batch is not None:
                on_batch(examples, predictions)
            bar.update(len(examples))
    if accelerator is not None:
        metric.reduce(accelerator)
    num_images = len(metric)
    return metric.compute() | {"num_images": num_images, "seconds": time.perf_counter() - start}


def _check_request(
    model: PreTrainedModel, domain: Domain, batch_size: int, limit: int | None, num_workers: int
) -> None:
    if not domain.labelled:
        raise ValueError(f"{domain.name} has no labels to measure against: choose a labelled domain")
    id2label = model.config.id2label
    model_names = [id2label[index] for index in sorted(id2label)]
    domain_names = list(domain.classes.names)
    if len(model_names) != len(domain_names):
        raise ValueError(
            f"the model has {len(model_names)} labels, but {domain.name} has {len(domain_names)} classes: "
            "choose a model that was trained on the same classes"
        )
    if model_names != domain_names and sorted(model_names) == sorted(domain_names):
        raise ValueError(
            f"the model and {domain.name} have the same classes in another order: {model_names} and {domain_names}"
        )
    for name, value, least in (("batch_size", batch_size, 1), ("limit", limit, 1), ("num_workers", num_workers, 0)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def _predict(model: PreTrainedModel, examples: Sequence[Example], size: tuple[int, int]) -> Tensor:
    """Return the class of every pixel, int64 (batch, *size)."""
    images = _stack([example.image for example in examples], model.device)
    pixel_values = normalize(images.permute(0, 3, 1, 2).contiguous())
    logits = model(pixel_values=pixel_values.to(model.dtype)).logits
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False).argmax(dim=1)


def _stack(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def _decode_ahead(decode: Callable[[Row], Example], rows: Iterable[Row], num_workers: int) -> Iterator[Example]:
    """Decode rows in threads, a few ahead of what is asked for, and yield the examples in the order of the rows."""
    if num_workers == 0:
        yield from map(decode, rows)
        return
    rows = iter(rows)
    with ThreadPoolExecutor(num_workers) as threads:
        pending = deque(threads.submit(decode, row) for row in islice(rows, num_workers * _DECODED_AHEAD))
        while pending:
            yield pending.popleft().result()
            pending.extend(threads.submit(decode, row) for row in islice(rows, 1))


def _batches(examples: Iterable[Example], batch_size: int) -> Iterator[list[Example]]:
    """Yield runs of up to `batch_size` neighbours that have the same size."""
    for _, run in groupby(examples, key=lambda example: example.image.shape):
        while batch := list(islice(run, batch_size)):
            yield batch


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every part of it back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
