"""Examples to a network in eval mode: what every measurement does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby, islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from mfm_hf.data.domain import Domain, Example, Row
from mfm_hf.data.transforms import normalize
from mfm_hf.models.sliding_window import SlidingWindow

# How many examples each thread may be ahead of the network: enough to keep it busy, few enough to hold in memory.
_DECODED_AHEAD = 4

T = TypeVar("T")


def decode_ahead(decode: Callable[[Row], T], rows: Iterable[Row], num_workers: int) -> Iterator[T]:
    """Decode rows in threads, a few ahead of what is asked for, and yield the results in the order of the rows."""
    if num_workers == 0:
        yield from map(decode, rows)
        return
    rows = iter(rows)
    with ThreadPoolExecutor(num_workers) as threads:
        pending = deque(threads.submit(decode, row) for row in islice(rows, num_workers * _DECODED_AHEAD))
        while pending:
            yield pending.popleft().result()
            pending.extend(threads.submit(decode, row) for row in islice(rows, 1))


def check_classes(model: PreTrainedModel, domain: Domain) -> None:
    """Check that a model's classes can stand for those of a domain.

    Raises:
        ValueError: If they differ in number or in order.
    """
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


def batches(examples: Iterable[Example], batch_size: int) -> Iterator[list[Example]]:
    """Yield runs of up to `batch_size` neighbours whose images are of one size, and whose labels are."""
    for _, run in groupby(examples, key=_sizes):
        while batch := list(islice(run, batch_size)):
            yield batch


def predict_logits(model: PreTrainedModel, examples: Sequence[Example], window: SlidingWindow | None = None) -> Tensor:
    """Return float32 logits of images of one size, (batch, num_labels, h, w).

    They are at the network's own stride, and at the size of the images where windows slide over them.
    """
    images = stack([example.image for example in examples], model.device)
    pixel_values = normalize(images.permute(0, 3, 1, 2).contiguous()).to(model.dtype)

    return segment(model, pixel_values, window)


def segment(model: PreTrainedModel, pixel_values: Tensor, window: SlidingWindow | None = None) -> Tensor:
    """Return float32 logits of normalised images, (batch, 3, height, width), that have the network's device and type.

    Their size is that of `predict_logits`. Windows are merged in float32, too.
    """

    def predict(pixel_values: Tensor) -> Tensor:
        return model(pixel_values=pixel_values).logits.float()

    return predict(pixel_values) if window is None else window(pixel_values, predict)


def predict_classes(
    model: PreTrainedModel, examples: Sequence[Example], size: Sequence[int], window: SlidingWindow | None = None
) -> Tensor:
    """Return the class of every pixel, int64 (batch, *size), of images of one size.

    The logits go to the images' size first and from there to `size`, as the references do. One image at a time, since
    19 classes of 1024 x 2048 pixels are 160 MB.
    """
    logits = predict_logits(model, examples, window)
    sizes = (examples[0].image.shape[:2], tuple(size))
    # `max` finds the same class as `argmax`, the first of equals, several times faster on a CPU.
    return torch.cat([_resized(one, sizes).max(dim=1).indices for one in logits.split(1)])


def _resized(maps: Tensor, sizes: Iterable[tuple[int, ...]]) -> Tensor:
    """Bring maps (batch, channels, height, width) to one size after another, bilinearly."""
    for size in sizes:
        if maps.shape[-2:] != size:
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return maps


def _sizes(example: Example) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    return example.image.shape, None if example.label is None else example.label.shape


def stack(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Return arrays of one shape as a tensor on a device."""
    return torch.from_numpy(np.stack(arrays)).to(device)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every part of it back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
